"""How events travel from a mount to who traces it: as the extension writes them, with few words.

A mount answers with a *reply*: a header and pieces, each of which can be understood by itself.

    reply    REPLY (form, whether more is waiting, number, process, how many events were lost),
             pieces
    piece    PIECE (sizes of what follows; where in its heap the first name was; the clock), then
    nodes    NODE (number, sizes), path and layer, of each node that the records mention
    records  RECORD each, as struct record in unionfs/fuse/_native.h
    heap     the names in the records, one after the other

The first reply has no pieces, but says of which process which descriptor is a file in memory. Who
can opens it and has later replies written there, with the number of bytes of their pieces. When the
mount ends the rest is written behind that, at REST_AT, with END for more: the last reply may not be
read yet. Until the first reply the file has the reader's name.

A record says nodes by number and names apart: its ``path`` is that of its node, with its first name
below that if it has one, ``other`` likewise, and ``layer`` is that of the node that was shown.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from unionfs.inspect.statistics import OPERATIONS

if TYPE_CHECKING:
    from unionfs.inspect.event import Event

FORM = 2  # of what is described here
END = 2  # for more: never
MEMORY = "unionfs-trace"  # the file's name in /proc
REST_AT = 1 << 24  # more than a reply has

REPLY = struct.Struct("=BBxxIIQ")  # form, more, number, process, lost
REPLY_MORE_AT = 1
PIECE = struct.Struct("=IIIIq")  # bytes of nodes, records and heap; base; clock
NODE = struct.Struct("=QHH")  # number, bytes of path and layer

# start and took (ns, by the piece's clock), node, other node, shown node, size, offset; where its
# names are in the heap, process, errno; opcode, hooked, bytes of first and other name; comm
RECORD = struct.Struct("=QQQQQQQIIiBBBB16s")

_RENAMES = (12, 45)  # FUSE_RENAME, FUSE_RENAME2

_Nodes = dict[int, tuple[str, str]]


class FormError(ValueError):
    """A reply is of another form than this version's."""


def decoded(reply: bytes) -> tuple[list[Event], int, bool]:
    """Return the events of *reply*, how many were lost, and whether more is waiting.

    Raises FormError for the reply of another version.
    """
    if len(reply) < REPLY.size or reply[0] != FORM:
        raise FormError("events in another form")
    _, more, _, _, lost = REPLY.unpack_from(reply)
    events: list[Event] = []
    at = REPLY.size
    while at < len(reply):
        nodes_size, records_size, heap_size, base, clock = PIECE.unpack_from(reply, at)
        at += PIECE.size
        nodes = _nodes(reply, at, at + nodes_size)
        at += nodes_size
        records = reply[at : at + records_size]
        at += records_size
        events += _events(records, nodes, reply[at : at + heap_size], base, clock)
        at += heap_size
    return events, lost, more == 1


def _nodes(reply: bytes, at: int, end: int) -> _Nodes:
    nodes: _Nodes = {0: ("", "")}
    while at < end:
        number, path_size, layer_size = NODE.unpack_from(reply, at)
        at += NODE.size
        path = reply[at : at + path_size]
        at += path_size
        nodes[number] = (_text(path), reply[at : at + layer_size].decode("ascii"))
        at += layer_size
    return nodes


def _events(records: bytes, nodes: _Nodes, heap: bytes, base: int, clock: int) -> Iterator[Event]:
    from unionfs.inspect.event import Event  # of no use to a mount, which imports the rest of this

    for (
        start, took, node, second, shown, size, offset,
        at, pid, errno, opcode, hooked, first_size, other_size, comm,
    ) in RECORD.iter_unpack(records):  # fmt: skip
        path, other, layer = nodes[node][0], nodes[second][0], nodes[shown][1]
        middle = at - base + first_size
        if first_size:
            path = _below(path, heap[at - base : middle])
        if other_size:
            other = _below(other, heap[middle : middle + other_size])
        if opcode in _RENAMES and not errno:
            layer = "upper"
        operation = OPERATIONS.get(opcode) or f"opcode_{opcode}"
        yield Event(
            start + clock, took, pid, _text(comm.rstrip(b"\0")), operation, path, other, layer,
            size, offset, errno, bool(hooked),
        )  # fmt: skip


def _below(directory: str, name: bytes) -> str:
    return f"{'' if directory == '/' else directory}/{_text(name)}"


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")

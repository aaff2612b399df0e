"""A piece of what a mount tells of its requests: read by columns, or event by event.

Thousands of requests a second go through who traces a mount, on the machine that is to be slowed
least. So a piece stays as it came (``inspect.records``), what is asked of all its requests is taken
out of it a column at once, and paths are put together for those that somebody wants to see.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from unionfs.inspect.event import Event
from unionfs.inspect.records import FORM, NODE, PIECE, RECORD, REPLY
from unionfs.inspect.statistics import OPERATIONS

_RENAMES = (12, 45)  # FUSE_RENAME, FUSE_RENAME2

_WORDS, _HALVES = RECORD.size // 8, RECORD.size // 4  # of a record
_TOOK = 1  # the word
_PID, _ERRNO = 15, 16  # halves of a word
_OPCODE, _COMM, _COMM_END = 68, 72, 88  # bytes
_NAMES_AT = struct.Struct("=56xI10xBB16x")  # and how long they are
_BELOW = struct.Struct("=16xQQ24xI10xBB16x")  # with the nodes before
_NODES = struct.Struct("=16xQQQ48x")
_AT = struct.Struct("=I")
_AT_PLACE, _AT_END = 56, 60
_WRAP = 0xFFFFFFFF

_Nodes = dict[int, tuple[str, str]]


class FormError(ValueError):
    """A reply is of another form than this version's, or a piece is damaged."""


class Piece:
    """Some requests: ``count`` of them, by the time at which they were answered.

    The other fields are those of ``inspect.records.PIECE``. A row is a request's place in it.
    """

    __slots__ = ("_found", "_is_part", "base", "clock", "count", "heap", "nodes", "records")

    def __init__(self, nodes: bytes, records: bytes, heap: bytes, base: int, clock: int) -> None:
        self.nodes = nodes
        self.records = records
        self.heap = heap
        self.base = base
        self.clock = clock
        self.count = len(records) // RECORD.size
        self._found: _Nodes | None = None
        self._is_part = False  # the names of requests that are not in it are

    def opcodes(self) -> bytes:
        """Return of each request which operation it was (``operation_of``)."""
        return self.records[_OPCODE :: RECORD.size]

    def took_ns(self) -> list[int]:
        """Return of each how long it took."""
        return memoryview(self.records).cast("Q")[_TOOK::_WORDS].tolist()

    def errnos(self) -> list[int]:
        """Return of each which error it ended with, 0 for none."""
        return memoryview(self.records).cast("i")[_ERRNO::_HALVES].tolist()

    def pids(self) -> list[int]:
        """Return of each who asked."""
        return memoryview(self.records).cast("I")[_PID::_HALVES].tolist()

    def command(self, row: int) -> str:
        """Return the name of the program that asked."""
        at = row * RECORD.size
        return _command(self.records[at + _COMM : at + _COMM_END])

    def paths(self, row: int) -> tuple[str, str]:
        """Return both paths of a request, as in ``Event``. Raises FormError."""
        node, second, at, first, other = _BELOW.unpack_from(self.records, row * RECORD.size)
        at = at - self.base & _WRAP
        return self._path(node, at, first), self._path(second, at + first, other)

    def events(self) -> Iterator[Event]:
        """Yield the requests. Raises FormError."""
        nodes, clock, base = self._names(), self.clock, self.base
        try:
            for (
                start, took, node, second, shown, size, offset,
                at, pid, errno, opcode, hooked, first, other, comm,
            ) in RECORD.iter_unpack(self.records):  # fmt: skip
                at = at - base & _WRAP
                path, above = nodes[node][0], nodes[second][0]
                layer = "upper" if opcode in _RENAMES and not errno else nodes[shown][1]
                if first:
                    path = self._path(node, at, first)
                if other:
                    above = self._path(second, at + first, other)
                yield Event(
                    start + clock, took, pid, _command(comm), operation_of(opcode), path, above,
                    layer, size, offset, errno, bool(hooked),
                )  # fmt: skip
        except (KeyError, struct.error):
            raise FormError("a piece with nodes that it does not name") from None

    def only(self, rows: Sequence[int]) -> Piece:
        """Return a piece of the requests *rows*, which go up."""
        if len(rows) == self.count:
            return self
        size, records = RECORD.size, self.records
        chosen = b"".join([records[row * size : row * size + size] for row in rows])
        part = Piece(self.nodes, chosen, self.heap, self.base, self.clock)
        part._is_part = True
        return part

    def packed(self) -> bytes:
        """Return it as bytes (``pieces_of``). Raises FormError."""
        if self._is_part:
            return self._spare().packed()
        sizes = len(self.nodes), len(self.records), len(self.heap)
        header = PIECE.pack(*sizes, self.base, self.clock)
        return header + self.nodes + self.records + self.heap

    def _spare(self) -> Piece:
        """Return it without the names that none of its requests has."""
        records, names, size = [], [], 0
        wanted: set[int] = set()
        for row in range(self.count):
            record = self.records[row * RECORD.size : (row + 1) * RECORD.size]
            wanted.update(_NODES.unpack(record))
            at, first, other = _NAMES_AT.unpack(record)
            records.append(record[:_AT_PLACE] + _AT.pack(size) + record[_AT_END:])
            names.append(self._name(at - self.base & _WRAP, first + other))
            size += first + other
        nodes = b"".join([each for number, each in self._each_node() if number in wanted])
        return Piece(nodes, b"".join(records), b"".join(names), 0, self.clock)

    def _names(self) -> _Nodes:
        if self._found is None:
            found = self._found = {0: ("", "")}
            for number, told in self._each_node():
                _, path_size, _ = NODE.unpack_from(told)
                layer_at = NODE.size + path_size
                found[number] = _text(told[NODE.size : layer_at]), _text(told[layer_at:])
        return self._found

    def _each_node(self) -> Iterator[tuple[int, bytes]]:
        at, nodes = 0, self.nodes
        while at < len(nodes):
            try:
                number, path_size, layer_size = NODE.unpack_from(nodes, at)
            except struct.error:
                raise FormError("a piece with half a node") from None
            end = at + NODE.size + path_size + layer_size
            yield number, nodes[at:end]
            at = end

    def _path(self, node: int, at: int, size: int) -> str:
        try:
            above = self._names()[node][0]
        except KeyError:
            raise FormError("a piece with nodes that it does not name") from None
        if not size:
            return above
        return f"{'' if above == '/' else above}/{_text(self._name(at, size))}"

    def _name(self, at: int, size: int) -> bytes:
        name = self.heap[at : at + size]
        if len(name) != size:
            raise FormError("a piece with names that it does not have")
        return name


def decoded(reply: bytes | memoryview) -> tuple[list[Piece], int, bool]:
    """Return the pieces of *reply*, how many requests were lost, and whether more is waiting.

    Raises FormError for the reply of another version.
    """
    if len(reply) < REPLY.size or reply[0] != FORM:
        raise FormError("events in another form")
    _, more, _, _, lost = REPLY.unpack_from(reply)
    return list(pieces_of(reply[REPLY.size :])), lost, more == 1


def pieces_of(data: bytes | memoryview) -> Iterator[Piece]:
    """Yield the pieces that are in *data*, copies that stay when it changes."""
    at = 0
    while at < len(data):
        nodes, records, heap, base, clock = PIECE.unpack_from(data, at)
        at += PIECE.size
        parts = []
        for size in (nodes, records, heap):
            parts.append(bytes(data[at : at + size]))
            at += size
        yield Piece(parts[0], parts[1], parts[2], base, clock)


def operation_of(opcode: int) -> str:
    """Return what requests of this number are called."""
    return OPERATIONS.get(opcode) or f"opcode_{opcode}"


def rows_where(wanted: Iterable[bool]) -> list[int]:
    """Return the rows of which *wanted* says so."""
    return [row for row, is_wanted in enumerate(wanted) if is_wanted]


def _command(comm: bytes) -> str:
    return _text(comm.rstrip(b"\0"))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")

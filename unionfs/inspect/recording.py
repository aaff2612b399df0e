"""A mount's requests in a file: written while they come, read by ``unionfs trace report``.

A line of JSON that says what was mounted, then the requests in pieces, as the mount tells of them
(``inspect.records``): to make more of them while they come would take the processor from those that
are recorded. At the end stand a piece without requests, whose clock is the time, and how many were
lost (_LOST). Pieces are written whole and nothing is compressed, so that what a killed recorder
leaves is short of its end and nothing else.

Version 1 had a line of JSON for each request, without what is as usual, and for the end. It is read
as well.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, BinaryIO

from unionfs.errors import CorruptError
from unionfs.inspect.event import Event
from unionfs.inspect.piece import FormError, Piece
from unionfs.inspect.records import PIECE, RECORD
from unionfs.inspect.stack import LayerName, Source
from unionfs.ondisk.flavour import Flavour

_FORMAT = "unionfs-trace"  # the first key of a header; its value is the format's version
_VERSION = 2
_LINES = 1  # the version that has lines only
_LARGEST = 1 << 16  # bytes of a piece (``fuse.tracer``)
_LOST = struct.Struct("=Q")
_LONGEST = 1 << 22  # bytes of a line; the commands of hundreds of layers may be long
_NONE = (KeyError, TypeError, ValueError, RecursionError)  # what a line that is none comes to


class BadRecordingError(CorruptError):
    """A file is no recording of a mount's requests, or one that is damaged."""


@dataclass(frozen=True, slots=True)
class Header:
    """What was recorded: the mount on *target*, begun at *begun_ns* (since 1970).

    *source* is its stack, *image* the ID of its image if it has one, *unseen* says in sentences
    which requests did not come to the daemon, *chosen* the words that chose some of those that did.
    """

    target: bytes
    begun_ns: int
    source: Source
    image: str | None = None
    unseen: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """How a recording ended: when (ns since 1970), and how many requests were *lost* on the way."""

    ended_ns: int
    lost: int


def header_line(header: Header) -> bytes:
    """Return the first line of a recording."""
    source = header.source
    return _line(
        {
            _FORMAT: _VERSION,
            "byteorder": sys.byteorder,
            "unionfs": header.version,
            "target": os.fsdecode(header.target),
            "begun_ns": header.begun_ns,
            "subject": source.subject,
            "image": header.image,
            "unseen": list(header.unseen),
            "chosen": list(header.chosen),
            "upper": source.upper,
            "flavour": None if source.flavour is None else source.flavour.name,
            "aufs": source.aufs,
            "layers": [_layer(name) for name in source.layers],
        }
    )


def end_mark(end: End) -> bytes:
    """Return what stands at the end."""
    return PIECE.pack(0, 0, 0, 0, end.ended_ns) + _LOST.pack(end.lost)


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def _layer(name: LayerName) -> dict[str, Any]:
    return {
        "label": name.label,
        "path": os.fsdecode(name.path),
        "number": name.number,
        "digest": name.digest,
        "command": name.command,
    }


class Recording:
    """A recording that is read once, from its beginning; ``end`` is None until then.

    It stays None where the recorder was killed: ``events`` then ends with the last whole piece.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Read the header of *file*, which is called *name*. Raises BadRecordingError, OSError."""
        self._file = file
        self._name = name
        self._number = 0
        self.end: End | None = None
        line = self._next()
        try:
            document = self._document(line)
            self.header = _header(document)
        except _NONE:
            raise BadRecordingError(f"{name} is no recording of unionfs trace") from None
        self._version = document[_FORMAT]
        if self._version != _LINES and document.get("byteorder") != sys.byteorder:
            raise BadRecordingError(f"{name} is from a machine of another byte order")

    def events(self) -> Iterator[Event]:
        """Yield the requests. Raises BadRecordingError naming what is none, OSError."""
        return self._in_lines() if self._version == _LINES else self._in_pieces()

    def _in_pieces(self) -> Iterator[Event]:
        number = 0
        while len(head := self._file.read(PIECE.size)) == PIECE.size:
            number += 1
            try:
                piece = self._piece(head)
                events = [] if piece is None else [_checked(event) for event in piece.events()]
            except _NONE:
                raise BadRecordingError(
                    f"{self._name}, piece {number}: no requests that unionfs trace records"
                ) from None
            if piece is None:
                return
            yield from events

    def _piece(self, head: bytes) -> Piece | None:
        """Return the piece that begins with *head*; None for one that is cut short, or the end.

        Raises one of _NONE.
        """
        *sizes, base, clock = PIECE.unpack(head)
        if not any(sizes):
            rest = self._file.read(_LOST.size)
            if len(rest) == _LOST.size:
                self.end = End(_number(clock), _LOST.unpack(rest)[0])
            return None
        if not sizes[1] or sizes[1] % RECORD.size or sum(sizes) > _LARGEST:
            raise FormError
        parts = [self._file.read(size) for size in sizes]
        if len(parts[2]) < sizes[2] or len(parts[1]) < sizes[1]:
            return None
        return Piece(parts[0], parts[1], parts[2], base, clock)

    def _in_lines(self) -> Iterator[Event]:
        while line := self._next():
            try:
                document = self._document(line)
                if "end" in document:
                    self.end = End(_number(document["ended_ns"]), _number(document["lost"]))
                    return
                event = _event(document)
            except _NONE:
                if not line.endswith(b"\n"):
                    return  # half written
                raise BadRecordingError(
                    f"{self._name}, line {self._number}: no request that unionfs trace records"
                ) from None
            yield event

    def _next(self) -> bytes:
        self._number += 1
        return self._file.readline(_LONGEST)

    def _document(self, line: bytes) -> dict[str, Any]:
        document = json.loads(line)
        if not isinstance(document, dict):
            raise TypeError
        version = document.get(_FORMAT, _VERSION)
        if isinstance(version, int) and version > _VERSION:
            raise BadRecordingError(f"{self._name} was recorded by a later version of unionfs")
        return document


def _header(document: dict[str, Any]) -> Header:
    if document[_FORMAT] not in (_LINES, _VERSION):
        raise ValueError
    flavour = document["flavour"]
    source = Source(
        _text(document["subject"]),
        tuple(_layer_name(one) for one in document["layers"]),
        upper=bool(document["upper"]),
        flavour=None if flavour is None else Flavour[flavour],
        aufs=bool(document["aufs"]),
    )
    return Header(
        os.fsencode(_text(document["target"])),
        _number(document["begun_ns"]),
        source,
        None if document["image"] is None else _text(document["image"]),
        tuple(_text(one) for one in document["unseen"]),
        tuple(_text(one) for one in document["chosen"]),
        _text(document["unionfs"]),
    )


def _layer_name(document: dict[str, Any]) -> LayerName:
    number, digest, command = document["number"], document["digest"], document["command"]
    return LayerName(
        _text(document["label"]),
        os.fsencode(_text(document["path"])),
        None if number is None else _number(number),
        None if digest is None else _text(digest),
        None if command is None else _text(command),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if b"\0" in os.fsencode(value):  # ValueError for halves of characters that no name decodes to
        raise ValueError
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    if value < 0:
        raise ValueError
    return value


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


_CHECKS = {
    one.name: {"int": _number, "str": _text, "bool": _flag}[str(one.type)] for one in fields(Event)
}


def _event(document: dict[str, Any]) -> Event:
    """Return the event of a line; raises one of _NONE for what is none."""
    for name, value in document.items():
        _CHECKS[name](value)
    return Event.of(document)


def _checked(event: Event) -> Event:
    """Return *event*; raises one of _NONE for what no mount tells."""
    if event.errno < 0 or event.start_ns < 0 or "\0" in event.path or "\0" in event.other:
        raise ValueError
    return event

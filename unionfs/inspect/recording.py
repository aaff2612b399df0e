"""A mount's requests in a file: written while they come, read by ``unionfs trace report``.

JSON lines: a header that says what was mounted, a line for each request (``Event``, without what
is as usual), and at the end how many there were and how many were lost. Lines are written whole and
nothing is compressed, so that what a killed recorder leaves is short of its end and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any, BinaryIO

from unionfs.errors import CorruptError
from unionfs.inspect.event import Event
from unionfs.inspect.stack import LayerName, Source
from unionfs.ondisk.flavour import Flavour

_FORMAT = "unionfs-trace"  # the first key of a header; its value is the format's version
_VERSION = 1
_LONGEST = 1 << 22  # bytes of a line; the commands of hundreds of layers may be long
_NONE = (KeyError, TypeError, ValueError, RecursionError)  # what a line that is none comes to
_USUAL = {one.name: one.default for one in fields(Event) if one.default is not MISSING}


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


def event_line(event: Event) -> bytes:
    """Return the line of one request."""
    document = event.document()
    return _line({k: v for k, v in document.items() if k not in _USUAL or v != _USUAL[k]})


def end_line(end: End) -> bytes:
    """Return the last line."""
    return _line({"end": True, "ended_ns": end.ended_ns, "lost": end.lost})


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

    It stays None where the recorder was killed: ``events`` then ends with the last whole line.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Read the header of *file*, which is called *name*. Raises BadRecordingError, OSError."""
        self._file = file
        self._name = name
        self._number = 0
        self.end: End | None = None
        line = self._next()
        try:
            self.header = _header(self._document(line))
        except _NONE:
            raise BadRecordingError(f"{name} is no recording of unionfs trace") from None

    def events(self) -> Iterator[Event]:
        """Yield the requests. Raises BadRecordingError naming a line that is none, OSError."""
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
    if document[_FORMAT] != _VERSION:
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

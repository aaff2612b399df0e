"""Recordings of both versions, for tests of what is read in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields

from tests.support.traced import piece_of
from unionfs.inspect.event import Event
from unionfs.inspect.recording import End, Header, end_mark, header_line

_USUAL = {one.name: one.default for one in fields(Event) if one.default is not MISSING}


def first_line(header: Header) -> bytes:
    """The first line of version 1."""
    document = json.loads(header_line(header)) | {"unionfs-trace": 1}
    del document["byteorder"]
    return _line(document)


def event_line(event: Event) -> bytes:
    """The line of a request in version 1."""
    document = event.document()
    return _line({k: v for k, v in document.items() if k not in _USUAL or v != _USUAL[k]})


def end_line(end: End) -> bytes:
    """The last line of version 1."""
    return _line({"end": True, "ended_ns": end.ended_ns, "lost": end.lost})


def _line(document: dict) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def in_lines(header: Header, events: Sequence[Event], end: End) -> bytes:
    """A recording of version 1."""
    return b"".join([first_line(header), *map(event_line, events), end_line(end)])


def in_pieces(header: Header, events: Sequence[Event], end: End) -> bytes:
    """A recording of this version, with two requests in a piece."""
    pieces = [piece_of(events[at : at + 2]).packed() for at in range(0, len(events), 2)]
    return b"".join([header_line(header), *pieces, end_mark(end)])

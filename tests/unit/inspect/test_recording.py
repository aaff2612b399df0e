"""What was recorded is read again, whole or cut short, and nothing else passes for a recording."""

from __future__ import annotations

import io
import sys

import pytest

from tests.support import recordings
from tests.support.traced import asked, piece_of
from unionfs.inspect import recording
from unionfs.inspect.recording import BadRecordingError, End, Header, Recording
from unionfs.inspect.records import NODE, PIECE
from unionfs.inspect.stack import LayerName, Source
from unionfs.ondisk.flavour import Flavour

SOURCE = Source(
    "container web",
    (
        LayerName("upper", b"/c/upper"),
        LayerName("layer 2", b"/l/two\xff", 2, "sha256:22", "RUN make"),
        LayerName("image metadata", b"/l/fix"),
        LayerName("layer 1", b"/l/one", 1, "sha256:11"),
    ),
    upper=True,
    flavour=Flavour.USER,
    aufs=True,
)
HEADER = Header(b"/mnt/a\xff", 17, SOURCE, "sha256:abc", ("opens of files",), ("--pid 7",), "1.2.3")
EVENTS = [
    asked("lookup", "/etc/\udcff\n", layer="2"),
    asked("read", "/f", layer="1", size=5, offset=9, errno=5, extension=True),
    asked("rename", "/a", other="/b", layer="upper", pid=0, command=""),
]
HEAD = recordings.first_line(HEADER)
BODY = b"".join(map(recordings.event_line, EVENTS))
LAST = recordings.end_line(End(99, 3))
NEW_HEAD = recording.header_line(HEADER)
PIECES = (piece_of(EVENTS[:2]), piece_of(EVENTS[2:], base=0xFFFFFFFF, clock=70))
NEW_BODY = b"".join(piece.packed() for piece in PIECES)
NEW_LAST = recording.end_mark(End(99, 3))


def read(data: bytes) -> tuple[Recording, list]:
    found = Recording(io.BytesIO(data), "FILE")
    return found, list(found.events())


@pytest.mark.parametrize("data", [HEAD + BODY + LAST, NEW_HEAD + NEW_BODY + NEW_LAST])
def test_what_was_written_is_read_again(data):
    found, events = read(data)
    assert (found.header, events, found.end) == (HEADER, EVENTS, End(99, 3))


@pytest.mark.parametrize("cut", range(len(NEW_BODY + NEW_LAST)))
def test_pieces_that_are_cut_anywhere_are_those_that_are_whole(cut):
    found, events = read(NEW_HEAD + (NEW_BODY + NEW_LAST)[:cut])
    whole = 3 if cut >= len(NEW_BODY) else 2 if cut >= len(PIECES[0].packed()) else 0
    assert (found.end, events) == (None, EVENTS[:whole])


def _with(at: int, value: bytes) -> bytes:
    """The pieces, the second of them with *value* at *at*."""
    at += len(PIECES[0].packed())
    return NEW_BODY[:at] + value + NEW_BODY[at + len(value) :]


@pytest.mark.parametrize(
    "body",
    [
        _with(0, b"\xff\xff\xff\xff"),  # too much
        _with(4, b"\0\0\0\0"),  # nothing but names
        _with(4, b"\x57"),  # less than a record
        _with(12, b"\0"),  # its names are elsewhere
        _with(PIECE.size, b"\x77"),  # another node
        _with(PIECE.size + NODE.size, b"\0"),  # a path with a NUL
        _with(len(PIECES[1].packed()) - 1, b"\0"),  # a name with one
        _with(PIECE.size + len(PIECES[1].nodes) + 64, b"\xff\xff\xff\xff"),  # errno -1
    ],
)
def test_a_piece_that_is_none_is_named(body):
    with pytest.raises(BadRecordingError, match=r"^FILE, piece 2: no requests that"):
        read(NEW_HEAD + body + NEW_LAST)


def test_another_byte_order_is_named():
    other = {"little": b"big", "big": b"little"}[sys.byteorder]
    head = NEW_HEAD.replace(sys.byteorder.encode(), other)
    with pytest.raises(BadRecordingError, match="machine of another byte order"):
        read(head + NEW_BODY)


def test_a_header_without_the_rest():
    plain = Header(b"/mnt", 0, Source("mount /mnt", (LayerName("layer 1", b"/l", 1),)))
    found, events = read(recording.header_line(plain))
    assert (found.header, events, found.end) == (plain, [], None)


@pytest.mark.parametrize("cut", range(1, len(BODY) - 1, 7))
def test_a_recording_that_is_cut_anywhere_has_its_whole_lines(cut):
    found, events = read(HEAD + BODY[:cut])
    whole = BODY[:cut].count(b"\n")
    assert found.end is None and events[:whole] == EVENTS[:whole] and len(events) == whole


def test_an_end_that_is_cut_is_none():
    found, events = read(HEAD + BODY + LAST[:-4])
    assert (events, found.end) == (EVENTS, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[1]\n",
        b"\x28\xb5\x2f\xfd\x00\n",
        b"[" * 100_000,
        HEAD[:-9],
        BODY,
        HEAD.replace(b'"begun_ns":17', b'"begun_ns":-1'),
        HEAD.replace(b'"begun_ns":17', b'"begun_ns":1e999'),
        HEAD.replace(b'"USER"', b'"OTHER"'),
        HEAD.replace(b"/l/one", b"/l/\\u0000"),
        HEAD.replace(b"/l/one", b"/l/\\ud800"),
        HEAD.replace(b'"layers":[', b'"layers":[7,'),
    ],
)
def test_what_is_no_recording(data):
    with pytest.raises(BadRecordingError, match=r"^FILE is no recording of unionfs trace$"):
        Recording(io.BytesIO(data), "FILE")


def test_a_line_without_an_end_is_not_read_to_its_end():
    endless = io.BytesIO(b"x" * (8 << 20))
    with pytest.raises(BadRecordingError):
        Recording(endless, "FILE")
    assert endless.tell() < 8 << 20


def test_a_later_version_is_named():
    with pytest.raises(BadRecordingError, match="later version"):
        Recording(io.BytesIO(HEAD.replace(b'"unionfs-trace":1', b'"unionfs-trace":3')), "FILE")


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"nonsense",
        b"7",
        BODY.splitlines()[0].replace(b'"pid":7', b'"pid":"7"'),
        BODY.splitlines()[0].replace(b'"pid":7', b'"pid":true'),
        BODY.splitlines()[0].replace(b'"pid":7', b'"pid":-7'),
        BODY.splitlines()[0].replace(b'"pid":7', b'"pdi":7'),
        BODY.splitlines()[0].replace(b'"path":"/etc', b'"path":"\\ud812'),
        LAST.strip().replace(b'"lost":3', b'"lost":null'),
    ],
)
def test_a_line_that_is_no_request_is_named(line):
    with pytest.raises(BadRecordingError, match=r"^FILE, line 5: no request"):
        read(HEAD + BODY + line + b"\n" + BODY)

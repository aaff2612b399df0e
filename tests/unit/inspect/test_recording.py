"""What was recorded is read again, whole or cut short, and nothing else passes for a recording."""

from __future__ import annotations

import io
import json

import pytest

from tests.support.traced import asked
from unionfs.inspect import recording
from unionfs.inspect.recording import BadRecordingError, End, Header, Recording
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
    asked("rename", "/a", other="/b", pid=0, command=""),
]
HEAD = recording.header_line(HEADER)
BODY = b"".join(map(recording.event_line, EVENTS))
LAST = recording.end_line(End(99, 3))


def read(data: bytes) -> tuple[Recording, list]:
    found = Recording(io.BytesIO(data), "FILE")
    return found, list(found.events())


def test_what_was_written_is_read_again():
    found, events = read(HEAD + BODY + LAST)
    assert (found.header, events, found.end) == (HEADER, EVENTS, End(99, 3))


def test_a_header_without_the_rest():
    plain = Header(b"/mnt", 0, Source("mount /mnt", (LayerName("layer 1", b"/l", 1),)))
    found, events = read(recording.header_line(plain))
    assert (found.header, events, found.end) == (plain, [], None)


def test_it_is_lines_of_json_without_what_is_as_usual():
    lines = (HEAD + BODY + LAST).decode("ascii").splitlines()
    documents = [json.loads(line) for line in lines]
    assert documents[0]["unionfs-trace"] == 1 and documents[-1]["lost"] == 3
    assert documents[1] == {
        "start_ns": 1_700_000_000_000_000_000, "took_ns": 1000, "pid": 7, "command": "sh",
        "operation": "lookup", "path": "/etc/\udcff\n", "layer": "2",
    }  # fmt: skip


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
        Recording(io.BytesIO(HEAD.replace(b'"unionfs-trace":1', b'"unionfs-trace":2')), "FILE")


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

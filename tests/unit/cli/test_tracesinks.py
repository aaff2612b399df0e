"""Where requests go: lines for people, documents, sums, and files that are not on the mount."""

from __future__ import annotations

import errno
import json
import os
import sys
import time

import pytest

from tests.support.traced import asked, piece_of
from unionfs.cli.tracesinks import (
    Added,
    Documents,
    FeedbackError,
    Lines,
    Recorder,
    refuse_inside,
    refuse_output_inside,
)
from unionfs.inspect.recording import End, Header, Recording
from unionfs.inspect.stack import LayerName, Source

HEADER = Header(b"/mnt", 5, Source("mount /mnt", (LayerName("layer 1", b"/l", 1),)))


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_lines_have_columns_that_grow_and_never_speak_to_the_terminal(capsys):
    lines = Lines()
    lines.take([])
    none = asked("lookup", "/etc/none", errno=errno.ENOENT, start_ns=1_700_000_000_045_999_999)
    lines.take([piece_of([none])])
    lines.show(
        [
            asked("read", "/a", layer="2", size=0, command="a\x1b[1m", took_ns=2_345_678),
            asked("rename2", "/a\n", other="/b\udcff", layer="upper", errno=0),
            asked("getxattr", "/c", layer="1", errno=4095),
            asked("statfs", "", pid=0, command=""),
            asked("lookup", "/d", layer="1", command="", pid=4194304),
            asked("lookup", "/e", layer="1", command="runc:[2:INIT]", pid=4194304),
            asked("lookup", "/f", layer="1"),
        ]
    )
    lines.end(3, torn=False)
    assert capsys.readouterr().out.splitlines() == [
        "TIME         PROCESS    REQUEST  LAYER RESULT TOOK    PATH",
        "22:13:20.045 sh[7]      lookup   -     ENOENT 1.0 us  /etc/none",
        r"22:13:20.000 a\033[1m[7] read     2     0B     2.3 ms  /a",
        r"22:13:20.000 sh[7]       rename2  upper ok     1.0 us  /a\012 -> /b\377",
        "22:13:20.000 sh[7]       getxattr 1     4095   1.0 us  /c",
        "22:13:20.000 -           statfs   -     ok     1.0 us  -",
        "22:13:20.000 ?[4194304]  lookup   1     ok     1.0 us  /d",
        "22:13:20.000 runc:[2:INIT][4194304] lookup   1     ok     1.0 us  /e",
        "22:13:20.000 sh[7]            lookup   1     ok     1.0 us  /f",
    ]


def test_documents_are_one_a_line(capsys):
    documents = Documents()
    events = [asked("open", "/a\n\udcff", layer="3"), asked("read", size=9, offset=3)]
    documents.take([piece_of(events[:1]), piece_of(events[1:])])
    documents.take([])
    documents.end(0, torn=False)
    lines = capsys.readouterr().out.splitlines()
    assert [type(events[0]).of(json.loads(line)) for line in lines] == events


def test_sums_are_printed_at_the_end(capsys):
    added = Added(b"/mnt", as_json=False)
    events = [asked("lookup", took_ns=3_000_000), asked("read", took_ns=1_000_000, errno=5)]
    added.take([piece_of(events)])
    assert capsys.readouterr().out == ""
    added.end(0, torn=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["%", "TIME", "TOTAL", "MEAN", "LONGEST", "CALLS", "ERRORS", "REQUEST"],
        ["75.0", "3.0", "ms", "3.0", "ms", "3.0", "ms", "1", "0", "lookup"],
        ["25.0", "1.0", "ms", "1.0", "ms", "1.0", "ms", "1", "1", "read"],
        ["100.0", "4.0", "ms", "2.0", "ms", "3.0", "ms", "2", "1", "all"],
    ]
    assert max(map(len, lines)) <= 80


def test_sums_as_a_document(capsys):
    added = Added(b"/mnt\xff", as_json=True)
    added.take([piece_of([asked("lookup")])])
    added.end(4, torn=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["target"], document["lost"]) == ("/mnt\udcff", 4)
    assert document["requests"]["lookup"]["count"] == 1


def test_a_recording_is_made_in_place_of_another_for_its_owner_only(tmp_path, capsys):
    path = str(tmp_path / "r")
    recorder = Recorder(path, HEADER, quiet=False)
    events = [asked("open", f"/{number}") for number in range(3)]
    assert os.path.getsize(path) == 0  # until the mount has begun to tell
    recorder.take([piece_of(events[:2])])
    with open(path, "rb") as file:  # whole before its end
        assert list(Recording(file, path).events()) == events[:2]
    recorder.take([])
    recorder.take([piece_of(events).only([2])])
    recorder.end(7, torn=False)
    recorder.close()
    with open(path, "rb") as file:
        found = Recording(file, path)
        assert (found.header, list(found.events())) == (HEADER, events)
        assert found.end is not None and (type(found.end), found.end.lost) == (End, 7)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert capsys.readouterr().err == f"unionfs: 3 requests recorded in {path}\n"
    with open(path, "ab") as file:
        file.write(b"x" * 100_000)
    again = Recorder(path, HEADER, quiet=True)
    assert os.path.getsize(path) == 0
    again.take([])
    again.close()
    with open(path, "rb") as file:
        assert list(Recording(file, path).events()) == []


def test_a_disk_that_is_full_is_named():
    full = Recorder("/dev/full", HEADER, quiet=True)
    with pytest.raises(OSError) as raised:
        full.take([])
    full.close()
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, "/dev/full")


def test_nothing_is_written_to_what_is_traced(tmp_path, monkeypatch):
    here = os.fsencode(tmp_path)
    for path in (tmp_path / "new", tmp_path):
        with pytest.raises(FeedbackError, match="record elsewhere"):
            refuse_inside(str(path), here)
    refuse_inside("/proc/self/new", here)
    with pytest.raises(FileNotFoundError):
        refuse_inside(str(tmp_path / "none/new"), here)
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with pytest.raises(FeedbackError, match="standard output"):
            refuse_output_inside(here)
    with open(os.devnull, "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        refuse_output_inside(b"/proc")

"""What the report makes of recordings that mean no good, or were made elsewhere."""

from __future__ import annotations

import json

import pytest

from tests.support.recordings import in_lines, in_pieces
from tests.support.traced import asked
from unionfs.cli import tracereport
from unionfs.cli.commands import build
from unionfs.cli.context import Context
from unionfs.inspect.event import Event
from unionfs.inspect.recording import End, Header
from unionfs.inspect.stack import LayerName, Source

EVIL = "\x1b[2J\n"
LAYERS = (
    LayerName("upper", b"/nowhere/upper"),
    LayerName(f"layer {EVIL}", b"/nowhere/\x1b", 2, f"sha256:{EVIL}", f"RUN {EVIL}"),
    LayerName("layer 1", b"/nowhere/one", 1),
)
HEADER = Header(b"/mnt", 10**18, Source(EVIL, LAYERS, upper=True), EVIL, (EVIL,), (EVIL,), "9")
EVENTS = (
    asked("read", f"/{EVIL}", layer="1", size=3000),
    asked("read", "/b", layer="1", size=1000),
    asked("read", "/b", layer="1", size=1000),
    asked("read", "/mine", layer="upper", size=9),
    asked("rename", f"/{EVIL}", other=f"/{EVIL}", layer="upper"),
    *(asked("mkdir", f"/{number:02}") for number in range(30)),
)


@pytest.fixture(params=[in_lines, in_pieces])
def recorded(request, tmp_path):
    file = tmp_path / "recorded"
    file.write_bytes(request.param(HEADER, EVENTS, End(10**18 + 2 * 10**9, 1)))
    return str(file)


def report(*words: str) -> None:
    context = Context.of(build().parse_args(["trace", "report", *words]))
    assert tracereport.report(context, context.args.file) == 0


def test_it_never_speaks_to_the_terminal(recorded, capsys):
    report(recorded)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == r"\033[2J\012, 2001-09-09 01:46:40Z: 35 requests in 2.0 s"
    assert lines[1] == r"image \033[2J\012"
    assert sum(line.startswith("! ") for line in lines) == 5  # filter, unseen, lost, two layers
    assert any(line.startswith("! 1 request lost: ") for line in lines)
    assert "2 files of the layers were read, 4kB of them" in lines
    assert "  layer \\033[2J\\012: RUN \\033[2J\\012" in lines
    assert r"3kB    3kB      -      1       /\033[2J\012" in lines
    assert "1kB    2kB      -      1       /b" in lines
    assert not any(line.endswith("/mine") for line in lines)
    assert lines[-1] == "… and 11 more (--json has all)"


def test_all_of_it_is_in_the_document(recorded, capsys):
    report(recorded, "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["lost"], found["seconds"], found["requests"]) == (1, 2.0, 35)
    assert found["together"] == {
        "has": None, "seen": None, "read": {"files": 2, "bytes": 4000, "bytes_in_all": 5000},
    }  # fmt: skip
    upper, middle, lowest = found["layers"]
    assert [one["path"] for one in upper["paths"]] == ["/mine"]
    assert middle["paths"] == [] and "/nowhere" in middle["not_measured"]
    assert [one["path"] for one in lowest["paths"]] == [f"/{EVIL}", "/b"]
    assert lowest["paths"][1] == {
        "path": "/b", "size": None, "opens": 0, "reads": 2, "bytes": 1000, "bytes_in_all": 2000,
    }  # fmt: skip
    assert len(found["changed"]) == 31


def test_the_requests_are_shown_one_by_one(recorded, capsys):
    context = Context.of(build().parse_args(["trace", "report", recorded, "--requests", "--json"]))
    assert tracereport.requests(context, recorded) == 0
    lines = capsys.readouterr().out.splitlines()
    assert tuple(Event.of(json.loads(line)) for line in lines) == EVENTS
    context = Context.of(build().parse_args(["trace", "report", recorded, "--requests"]))
    assert tracereport.requests(context, recorded) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("TIME ") and len(lines) == len(EVENTS) + 1

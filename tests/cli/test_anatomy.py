"""image tree, waste, diff and history, and cat: the commands around what inspect finds out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.anatomy import BASE, COMMANDS, HISTORY, LAYERS, make_store
from tests.support.command import Cli
from tests.support.stores import add_image
from tests.support.tars import dir_, file, tar
from unionfs.store.store import Store


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    root = tmp_path_factory.mktemp("anatomy") / "store"
    make_store(root)
    with Store.open(str(root)) as store:
        again = tar(dir_("./"), file("etc/again", b"!"))
        add_image(store, BASE, again, BASE, names=["twice"])
        changed = tar(dir_("./"), dir_("etc/", mode=0o700), file("etc/motd", b"another\n"))
        add_image(store, *LAYERS[:1], changed, names=["other"])
        add_image(store, names=["nothing"])
    return Cli(root)


def test_tree(cli: Cli) -> None:
    text = cli("image", "tree", "anatomy")
    assert [line for line in text.splitlines() if line.startswith("layer ")] == [
        f"layer {4 - place}  {command}" for place, command in enumerate(reversed(COMMANDS))
    ]
    assert "  18B: 1 added, 1 changed, 5 deleted (1.35kB still shipped)\n" in text
    assert "  shared with other:latest, twice:latest\n" in text
    assert max(map(len, text.splitlines())) <= 80
    layers = cli.json("image", "tree", "anatomy")["layers"]
    assert [layer["size"] for layer in layers] == [377, 1004, 18, 19]
    assert layers[2]["deleted"] == {"paths": 5, "bytes": 1350}


def test_a_layer_that_is_there_twice(cli: Cli) -> None:
    layers = cli.json("image", "tree", "twice")["layers"]
    assert [layer["same_as"] for layer in layers] == [3, None, None]
    assert "the same as layer 3" in cli("image", "tree", "twice")


def test_an_image_without_layers(cli: Cli) -> None:
    assert cli.json("image", "tree", "nothing")["layers"] == []
    assert cli.json("image", "waste", "nothing")["wasted"] == 0
    assert cli("image", "history", "nothing").splitlines() == ["LAYER   CREATED   SIZE   COMMAND"]
    assert cli.json("explain", "nothing", "/x")[0]["outcome"] == "absent"


def test_waste(cli: Cli) -> None:
    found = cli.json("image", "waste", "anatomy")
    assert (found["size"], found["wasted"]) == (1418, 1374)
    assert [(one["number"], one["hides"]) for one in found["by_layer"]] == [(3, 1358), (4, 16)]
    assert found["files"][0] == {
        "path": "/app/data", "bytes": 1000, "layer": 2, "hidden_by": 3, "how": "deleted",
    }  # fmt: skip
    text = cli("image", "waste", "anatomy")
    assert text.startswith("1.37kB of 1.42kB are shipped and never show (96.9%)\n")
    assert "1kB      2       deleted by 3   /app/data\n" in text


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (
            ["--max-wasted-bytes", "1373"],
            1,
            "anatomy:latest wastes 1374 bytes, more than 1373",
        ),
        (["--max-wasted-percent", "90.5"], 1, "anatomy:latest wastes 96.9%, more than 90.5%"),
        (["--max-wasted-bytes", "1374", "--max-wasted-percent", "97"], 0, ""),
        (["--max-wasted-percent", "101"], 2, "'101' is not a share from 0 to 100"),
        (["--max-wasted-bytes", "-1"], 2, ""),
    ],
)
def test_waste_has_an_exit_status_for_ci(
    cli: Cli, words: list[str], status: int, error: str
) -> None:
    done = cli.run("image", "waste", "anatomy", *words)
    assert done.returncode == status, done
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == (status > 0)


def test_diff(cli: Cli) -> None:
    found = cli.json("image", "diff", "anatomy", "other")
    assert {"kind": "D", "path": "/app", "changed": []} in found
    assert {"kind": "C", "path": "/etc", "changed": ["mode"]} in found
    motd = next(one for one in found if one["path"] == "/etc/motd")
    assert (motd["kind"], motd["changed"]) == ("C", ["content", "time"])
    assert "A /usr/share/doc/b\n" in cli("image", "diff", "anatomy", "other")
    assert cli("image", "diff", "anatomy", "anatomy") == ""


def test_history(cli: Cli) -> None:
    steps = cli.json("image", "history", "anatomy")
    assert [step["layer"] for step in steps] == [1, 2, None, 3, 4]
    assert [step["command"] for step in steps] == [*COMMANDS[:2], "ENV A=b", *COMMANDS[2:]]
    assert len(steps) == len(HISTORY)
    assert cli("image", "history", "anatomy").splitlines()[1].split() == [
        "4",
        "-",
        "19B",
        *COMMANDS[3].split(),
    ]
    assert [step["command"] for step in cli.json("image", "history", "twice")] == [None] * 3


def test_the_history_of_a_path(cli: Cli) -> None:
    life = cli.json("image", "history", "anatomy", "/etc/motd")
    assert [(one["number"], one["how"], one["same_content_as_shown"]) for one in life] == [
        (1, "added", True), (3, "changed", False), (4, "changed", True),
    ]  # fmt: skip
    life = cli.json("image", "history", "anatomy", "/app/data")
    assert [(one["number"], one["how"]) for one in life] == [
        (2, "added"), (3, "deleted"), (4, "added"),
    ]  # fmt: skip
    life = cli.json("image", "history", "anatomy", "/usr/share/doc/b")
    assert [(one["number"], one["how"]) for one in life] == [(1, "added"), (3, "deleted")]
    life = cli.json("image", "history", "anatomy", "/opt/tool")
    assert [(one["number"], one["how"]) for one in life] == [(1, "added"), (3, "deleted")]
    assert len(cli.json("image", "history", "anatomy", "/app")) == 1
    assert cli.fails("image", "history", "anatomy", "/nope") == "/nope is in no layer"


def test_cat(cli: Cli, tmp_path: Path) -> None:
    assert cli("cat", "anatomy", "/etc/motd") == "welcome\n"
    assert cli("cat", "anatomy", "/app/conf/passwd") == "root:x:0:0\n"
    assert cli("cat", "--layer", "3", "anatomy", "/etc/motd") == "changed\n"
    assert cli("cat", "--layer", "1", "anatomy", "/usr/share/doc/a") == "a" * 100
    said = cli.fails("cat", "--layer", "2", "anatomy", "/etc/motd")
    assert said == "layer 2 has no /etc/motd; layers that have it: 1, 3, 4"
    assert "deleted by layer 3" in cli.fails("cat", "anatomy", "/usr/share/doc/a")
    assert cli.fails("cat", "anatomy", "/etc") == "/etc is a directory, not a file"
    assert "is a symbolic link, not a file" in cli.fails(
        "cat", "--layer", "2", "anatomy", "/app/conf"
    )

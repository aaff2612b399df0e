"""image and layer: import, ls, inspect, rm, and the layers between them."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.support.command import Cli
from tests.support.images import Layout, sha256
from tests.support.tars import file, tar


@pytest.fixture
def own(tmp_path: Path) -> Cli:
    """A store that is not there yet."""
    return Cli(tmp_path / "store")


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root filesystem with one file."""
    path = tmp_path / "rootfs"
    path.mkdir()
    (path / "file").write_text("content")
    return path


def test_nothing_is_there_before_the_first_import(own: Cli) -> None:
    heads = "NAME   TAG   IMAGE ID   CREATED   LAYERS   SIZE\n"
    assert own("image", "ls") == heads
    assert own("layer", "ls") == "LAYER ID   STORED   SIZE   ENTRIES   IMAGES\n"
    assert own.json("image", "ls") == own.json("layer", "ls") == own.json("ls") == []
    assert own.json("df")["layer_bytes"] == 0
    assert not own.root.exists()


def test_import_prints_the_id(own: Cli, rootfs: Path) -> None:
    printed = own("image", "import", f"rootfs:{rootfs}", "--name", "a:b")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", printed)
    (image,) = own.json("image", "ls")
    assert image["id"] == printed.strip()
    assert (image["names"], image["size"], image["layers"]) == (["a:b"], 7, 1)
    row = own("image", "ls").splitlines()[1]
    assert row.split()[:3] == ["a", "b", printed[7:19]]
    assert row.endswith(" 7B")


def test_inspect_shows_the_layers(own: Cli, rootfs: Path) -> None:
    own("image", "import", f"rootfs:{rootfs}", "--name", "a")
    document = own.json("image", "inspect", "a")
    (layer,) = own.json("layer", "ls")
    assert document["layers"] == [{"diff_id": layer["diff_id"], "size": 7}]
    assert layer["images"] == [document["id"]]
    shown = own.json("layer", "inspect", layer["diff_id"][7:19])
    assert (Path(shown["path"]) / "file").read_text() == "content"
    assert layer["diff_id"] in own("image", "inspect", "a")
    assert layer["diff_id"] in own("layer", "inspect", layer["diff_id"])


def test_rm_takes_the_layers_that_nobody_else_has(own: Cli, rootfs: Path) -> None:
    own("image", "import", f"rootfs:{rootfs}", "--name", "a")
    path = Path(own.json("layer", "inspect", own("layer", "ls", "-q").strip())["path"])
    printed = own("image", "rm", "a").splitlines()
    assert [line.split()[:2] for line in printed] == [["removed", "image"], ["removed", "layer"]]
    assert own.json("image", "ls") == own.json("layer", "ls") == []
    assert not path.exists()


def test_rm_is_refused_while_a_container_uses_the_image(own: Cli, rootfs: Path) -> None:
    own("image", "import", f"rootfs:{rootfs}", "--name", "a")
    own("create", "a", "--name", "one")
    own("create", "a", "--name", "two")
    assert own.fails("image", "rm", "a") == "image a:latest is used by containers one, two"
    own("rm", "one", "two")
    own("image", "rm", "a")


def test_rm_takes_a_name_and_with_the_last_one_the_image(own: Cli, rootfs: Path) -> None:
    own.env["SOURCE_DATE_EPOCH"] = "1"  # or the next second's import is another image
    for name in ("a", "b:1", "here/c"):
        own("image", "import", f"rootfs:{rootfs}", "--name", name)
    (image,) = {one["id"] for one in own.json("image", "ls")}
    own("create", "a", "--name", "one")
    assert own("image", "rm", "a") == "removed name a:latest\n"
    assert own.json("image", "inspect", "b:1")["names"] == ["b:1", "here/c:latest"]
    assert own.fails("image", "rm", "c", "b:1") == "image b:1 is used by container one"
    own("rm", "one")
    removed = own.json("image", "rm", "c", "b:1")
    assert (removed["names"], removed["images"]) == (["b:1", "here/c:latest"], [image])
    assert own.json("image", "ls") == own.json("layer", "ls") == []


def test_rm_of_an_id_with_several_names_takes_force_and_then_tells_them(
    own: Cli, rootfs: Path
) -> None:
    own.env["SOURCE_DATE_EPOCH"] = "1"
    own("image", "import", f"rootfs:{rootfs}", "--name", "a")
    own("image", "import", f"rootfs:{rootfs}", "--name", "b")
    image = own.json("image", "inspect", "a")["id"]
    short = image.partition(":")[2][:12]
    assert own.fails("image", "rm", short) == (
        f"image {short} has several names (a:latest, b:latest):"
        " remove names, or all of it with --force"
    )
    printed = own("image", "rm", "--force", short).splitlines()
    assert printed[:3] == [
        "removed name a:latest",
        "removed name b:latest",
        f"removed image {image}",
    ]
    assert own.json("image", "ls") == []


def test_force_takes_no_image_from_under_a_container(own: Cli, rootfs: Path) -> None:
    """docker's does, of a stopped one, which can never be started again then."""
    own("image", "import", f"rootfs:{rootfs}", "--name", "a")
    own("create", "a", "--name", "one")
    (image,) = own.json("image", "ls")
    for word in ("a", image["id"]):
        error = own.fails("image", "rm", "--force", word)
        assert error == "image a:latest is used by container one"
    assert own.json("image", "inspect", "a")["names"] == ["a:latest"]


def test_force_forgives_what_is_not_there(own: Cli, rootfs: Path) -> None:
    own("image", "import", f"rootfs:{rootfs}", "--name", "a")
    done = own.run("image", "rm", "--force", "none", "a")
    assert (done.returncode, done.stderr) == (0, "unionfs: no such image: none\n")
    assert own.json("image", "ls") == []


def test_tag_and_untag(own: Cli, rootfs: Path) -> None:
    image = own("image", "import", f"rootfs:{rootfs}", "--name", "a").strip()
    (rootfs / "more").touch()
    other = own("image", "import", f"rootfs:{rootfs}", "--name", "here/b:1").strip()
    assert own("image", "tag", "a", "c") == own("image", "tag", image[7:19], "d:2") == ""
    assert own.json("image", "inspect", "c")["names"] == ["a:latest", "c:latest", "d:2"]
    done = own.run("image", "tag", "b:1", "c")
    assert done.stderr == f"unionfs: c was a name of image {image} before\n"
    assert own.json("image", "inspect", "c")["id"] == other
    assert "lower-case" in own.fails("image", "tag", "a", "UPPER", status=2)
    assert own.fails("image", "tag", "none", "x") == "no such image: none"
    assert "an ID cannot be taken away" in own.fails("image", "untag", "a", image)
    assert own("image", "untag", "a", "d:2", "b:1").splitlines() == [
        "removed name a:latest",
        "removed name d:2",
        "removed name here/b:1",
    ]
    assert own.json("image", "inspect", image)["names"] == []
    assert own.json("image", "inspect", other)["names"] == ["c:latest"]
    own("create", image, "--name", "one")  # it is whole, only nameless


def test_a_manifests_digest_names_its_image(own: Cli, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    entry = layout.image([tar(file("a", b"1"))])
    layout.index(entry)
    image = own("image", "import", f"oci:{layout.path}", "--name", "here.org/team/a:1").strip()
    for word in (
        entry["digest"],
        f"team/a@{entry['digest']}",
        f"here.org/team/a@{entry['digest']}",
        f"team/a@{image}",
    ):
        assert own.json("image", "inspect", word)["id"] == image
    for word in (f"b@{entry['digest']}", f"team/a@{sha256(b'')}", entry["digest"][:-1] + "g"):
        assert own.fails("image", "inspect", word) == f"no such image: {word}"
    assert own("image", "rm", entry["digest"]).startswith(f"removed image {image}\n")


def test_rm_of_several_is_all_or_none(own: Cli, rootfs: Path) -> None:
    own("image", "import", f"rootfs:{rootfs}", "--name", "a")
    assert "no such image: none" in own.fails("image", "rm", "a", "none")
    assert len(own.json("image", "ls")) == 1


def test_a_limit_can_be_raised(own: Cli, rootfs: Path) -> None:
    error = own.fails("image", "import", f"rootfs:{rootfs}", "--limit", "max_bytes=100")
    assert "--limit max_bytes=N" in error
    assert own.json("image", "ls") == own.json("layer", "ls") == []
    own("image", "import", f"rootfs:{rootfs}", "--limit", "max_bytes=100000")


def test_the_root_option_wins_over_the_environment(own: Cli, rootfs: Path, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    own("--root", other, "image", "import", f"rootfs:{rootfs}", "--name", "a")
    assert own.json("image", "ls") == []
    assert own("image", "ls", "--root", other).count("\n") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_an_export_and_leaves_nothing(
    own: Cli, rootfs: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """SIGTERM left a hidden file beside the destination, where nobody sweeps."""
    (rootfs / "large").write_bytes(os.urandom(30 << 20))  # to be compressed for a second or more
    own("image", "import", f"rootfs:{rootfs}", "--name", "large")
    out = tmp_path / "out"
    out.mkdir()
    process = own.start(
        "image", "export", "large", f"oci-archive:{out}/x", preexec_fn=_hearing_hangups
    )
    while not any(out.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert list(out.iterdir()) == []
    assert list((own.root / "tmp").iterdir()) == []


def _hearing_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the suite may run under nohup(1)

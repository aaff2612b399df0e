"""Looking into the stack as an ordinary user, in whose store owners and types are written down."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ordinary.test_image import layers as odd_layers
from tests.support import images, tars
from tests.support.command import Cli
from tests.support.ordinary import GID, UID, User

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_AGREES = """
import os, sys
from tests.support.explaining import assert_agrees, every_path
from unionfs.container.subject import find_source
from unionfs.store.store import Store
root, subject, target = sys.argv[1:]
with Store.open(root) as store:
    source = find_source(store, subject)
# Not below a directory of the image to which nobody has access: there the disk says no to a walk.
paths = every_path(*(layer.path for layer in source.layers), os.fsencode(target))
said = assert_agrees(source, os.fsencode(target), paths)
print(len(said), sum(one.shown is None for one in said))
"""
_TELLS = """
import os, sys
for name in ("layer", "digest", "why", "origin", "path", "allpaths"):
    try:
        print(os.getxattr(sys.argv[1], f"user.unionfs.{name}").decode())
    except OSError as error:
        print(error.strerror)
"""
_TRACES = """
import os, subprocess, sys
from unionfs.container.tracing import read_events
batches = read_events(os.fsencode(sys.argv[1]))
next(batches)
for number in range(20):
    os.path.exists(f"{sys.argv[1]}/last{number}")
subprocess.run([sys.executable, "-m", "unionfs", "umount", sys.argv[1]], check=True)
rest = list(batches)
asked = {event.path for batch in rest for event in batch.events}
print(sum(path.startswith("/last") for path in asked), any(batch.torn for batch in rest))
"""
_CHANGES = """
import os, sys
os.chdir(sys.argv[1])
open("etc/shadow", "w").write("changed")
os.chmod("etc/mine", 0o666); os.chown("null", 3, 4); os.unlink("big"); os.mkfifo("fifo")
os.symlink("to", "made"); os.rename("closed", "opened"); open("second", "a").write("more")
"""


@pytest.fixture(scope="module")
def container(user: User) -> Iterator[Path]:
    """The user's container ``looked``, mounted; its mount point. Beside it the image ``less``."""
    more = tars.tar(tars.whiteout("first"), tars.file("etc/none", b"again", mode=0o600, uid=3))
    bottom, top = odd_layers()
    for name, made in (("looking", [bottom, top, more]), ("less", [bottom, top])):
        archive = user.home.parent / f"{name}.tar"
        archive.write_bytes(images.docker_archive(made, (f"{name}:1",)))
        archive.chmod(0o644)
        user.unionfs("image", "import", archive, "--name", name)
    user.unionfs("create", "looking", "--name", "looked")
    target = user.home / "looked"
    target.mkdir()
    os.chown(target, UID, GID)
    user.unionfs("mount", "looked", target)
    yield target
    user.unionfs("rm", "--force", "looked")


def _store(user: User) -> Path:
    return user.home / ".local/share/unionfs"


def test_explain_agrees_with_his_mount(user: User, container: Path) -> None:
    for subject in ("looked", str(container)):
        count, absent = user.script(_AGREES, _store(user), subject, container).split()
        assert int(count) > 20 and int(absent) >= 2
    user.script(_CHANGES, container)
    assert int(user.script(_AGREES, _store(user), "looked", container).split()[1]) >= 3


def test_what_is_written_down_is_what_is_said(user: User, container: Path) -> None:
    said = user.unionfs("--json", "explain", "less", "/disk", "/link", "/etc/mine", "/gone")
    disk, link, mine, gone = json.loads(said)
    assert (disk["shown"]["type"], disk["shown"]["mode"]) == ("block device", "0660")
    assert (link["shown"]["type"], link["shown"]["target"]) == ("symbolic link", "etc/shadow")
    assert (mine["shown"]["uid"], mine["shown"]["gid"], mine["shown"]["mode"]) == (
        1000, 1001, "0600",
    )  # fmt: skip
    assert gone["blame"]["layer"] == "layer 2"


def test_attributes_of_his_mount(user: User, container: Path, roots: Cli) -> None:
    """He may know where things are on the disk. Root may not even enter: FUSE keeps him out."""
    told = user.script(_TELLS, container / "cap").splitlines()
    assert told[0] == "1" and told[1].startswith("sha256:")
    assert told[2:4] == ["from layer 1", "layer 1 /cap"]
    assert (
        told[4] == told[5] and Path(told[4]).parent.parent.parent == _store(user) / "layers/sha256"
    )
    said = roots.fails("explain", str(container), "/cap")
    assert "its daemon does not say what it is mounted from (it is another user's" in said


def test_what_his_images_are_made_of(user: User, container: Path) -> None:
    tree = json.loads(user.unionfs("--json", "image", "tree", "looking"))
    acts = [
        [row[act]["paths"] for act in ("added", "changed", "deleted")] for row in tree["layers"]
    ]
    assert acts == [[20, 0, 0], [2, 0, 1], [0, 1, 1]]
    waste = json.loads(user.unionfs("--json", "image", "waste", "looking"))
    assert [(one["path"], one["bytes"], one["hidden_by"]) for one in waste["files"]] == [
        ("/etc/none", 17, 3), ("/gone", 5, 2),
    ]  # fmt: skip
    changes = user.unionfs("image", "diff", "less", "looking").splitlines()
    assert changes == ["D /first", "C /etc/none  (content, mode, owner)"]
    assert user.unionfs("cat", "looking", "/etc/none") == "again"
    assert user.unionfs("cat", "--layer", "1", "looking", "/etc/none") == "nobody reads this"
    assert "changed" in user.unionfs("image", "history", "looking", "/etc/none")


def test_his_trace_goes_to_the_end_of_his_mount(user: User, container: Path) -> None:
    """The daemon is his, so that he finds in its memory what it did last."""
    target = user.home / "traced"
    target.mkdir()
    os.chown(target, UID, GID)
    user.unionfs("create", "less", "--name", "traced")
    user.unionfs("mount", "traced", target, "-o", "record")
    said = user.script(_TRACES, target)
    user.unionfs("rm", "--force", "traced")
    assert said == "20 False\n"

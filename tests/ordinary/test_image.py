"""An image looks to an ordinary user as it does to root, whatever it holds."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images, tars, trees
from tests.support.command import Cli
from tests.support.ordinary import GID, UID, User

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_CAPABILITY = bytes.fromhex("01000002002000000000000000000000" + "00000000")
_SNAPSHOT = """
import pickle, sys, os
from tests.support import trees
found = trees.snapshot(os.fsencode(sys.argv[1]))
open(sys.argv[2], "wb").write(pickle.dumps(found))
"""


def layers() -> list[bytes]:
    bottom = tars.tar(
        tars.dir_("etc", mode=0o755),
        tars.file("etc/shadow", b"secret", mode=0o640, uid=0, gid=42),
        tars.file("etc/none", b"nobody reads this", mode=0),
        tars.file("etc/mine", b"600", mode=0o600, uid=1000, gid=1001),
        tars.dir_("closed", mode=0, uid=5),
        tars.file("closed/inside", b"x", mode=0o4711, uid=77, gid=88),
        tars.dir_("tmp", mode=0o1777),
        tars.dir_("mail", mode=0o2775, gid=8),
        tars.symlink("link", "etc/shadow", uid=3),
        tars.symlink("dangling", "/no/where"),
        tars.fifo("pipe", mode=0o666),
        tars.char_device("null", 1, 3, mode=0o666),
        tars.entry("disk", b"4", major=8, minor=1, mode=0o660, uid=0, gid=6),
        tars.file("cap", b"#!", mode=0o755, xattrs={"security.capability": _CAPABILITY}),
        tars.file("attr", b"a", xattrs={"user.one": b"1"}),
        tars.file("first", b"linked", mode=0o600, uid=9),
        tars.hardlink("second", "first"),
        tars.hardlink("link2", "link"),
        tars.file("gone", b"below"),
        tars.file("big", b"0123456789" * 50_000, mode=0o400),
    )
    top = tars.tar(tars.whiteout("gone"), tars.file("etc/implied/x", b"", mode=0o200, uid=4))
    return [bottom, top]


@pytest.fixture(scope="module")
def archive(user: User) -> Path:
    path = user.home.parent / "image.tar"
    path.write_bytes(images.docker_archive(layers()))
    path.chmod(0o644)
    return path


@pytest.fixture(scope="module")
def container(user: User, archive: Path) -> Iterator[Path]:
    """The user's container ``c``, mounted; its mount point."""
    user.unionfs("image", "import", archive, "--name", "odd")
    user.unionfs("create", "odd", "--name", "c")
    target = user.home / "c"
    target.mkdir(exist_ok=True)
    os.chown(target, UID, GID)
    user.unionfs("mount", "c", target)
    yield target
    user.unionfs("rm", "--force", "c")


def snapshot(user: User, root: Path) -> trees.Tree:
    out = user.home / "snapshot"
    user.script(_SNAPSHOT, root, out)
    return pickle.loads(out.read_bytes())


def test_looks_as_to_root(user: User, roots: Cli, archive: Path, container: Path, tmp_path: Path):
    roots("image", "import", str(archive), "--name", "odd")
    roots("create", "odd", "--name", "c")
    target = tmp_path / "m"
    target.mkdir()
    roots("mount", "c", str(target))
    try:
        theirs = trees.snapshot(bytes(target))
    finally:
        roots("umount", "c")
    trees.assert_same(snapshot(user, container), theirs, ("user", "root"))


_LOOK = """
import os, sys
from tests.support.extension import by_python
root = os.fsencode(sys.argv[1])
os.listdir(root), os.stat(root + b"/etc")  # which is Python's, as all in a directory of the upper

def look():
    for name in os.listdir(root + b"/etc"):
        os.lstat(root + b"/etc/" + name)
    os.chdir(root + b"/etc/implied")
    assert os.listdir() == ["x"] and os.lstat("x").st_uid == 4
    assert os.access("../none", os.R_OK | os.W_OK) and not os.access("../none", os.X_OK)

print(by_python(root, look))
"""


@pytest.mark.needs_extension
def test_a_look_around_is_answered_by_the_extension(user: User, container: Path) -> None:
    """The merged index has the owners, and access(2) is answered from them."""
    user.unionfs("create", "odd", "--name", "fresh")
    target = user.home / "fresh"
    target.mkdir()
    os.chown(target, UID, GID)
    user.unionfs("mount", "fresh", target)
    try:
        assert int(user.script(_LOOK, target)) == 0
    finally:
        user.unionfs("rm", "--force", "fresh")


_CHANGES = """
import os, sys
os.umask(0o022); os.chdir(sys.argv[1])
def w(p, d, mode=0o644):
    fd = os.open(p, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode); os.write(fd, d); os.close(fd)
w("etc/none", b"written"); w("etc/new", b"new", 0o600)
os.mkdir("closed/dir", 0o750); w("closed/dir/f", b"1")
os.chmod("etc/shadow", 0o4711); os.chown("etc/shadow", 12, 34)
os.chown("etc/mine", -1, 99); os.chmod("etc/mine", 0o666)
os.symlink("to", "made"); os.lchown("made", 5, 6); os.lchown("dangling", 7, 8)
os.mkfifo("fifo", 0o640); os.chown("fifo", 1, 2); os.chown("null", 3, 4); os.chmod("disk", 0o600)
w("mail/letter", b"dear"); os.mkdir("mail/box")
os.link("etc/new", "etc/linked"); os.rename("closed", "opened"); os.rename("link", "mail/link")
os.unlink("gone2") if os.path.exists("gone2") else None
os.unlink("attr"); os.truncate("big", 3); os.setxattr("cap", "user.x", b"y")
os.unlink("second"); w("first", b"not linked any more")
w("etc/suid", b"s"); os.chmod("etc/suid", 0o6755); os.chown("etc/suid", 9, 9)
os.utime("etc/implied", ns=(10**18, 10**18 + 5)); os.rename("pipe", "etc/pipe")
"""


def test_what_he_changes_is_as_if_root_did(
    user: User, roots: Cli, archive: Path, container: Path, tmp_path: Path
) -> None:
    """Once while it is mounted, and again from what is on the disk."""
    roots("create", "odd", "--name", "changed")
    target = tmp_path / "m"
    target.mkdir()
    roots("mount", "changed", str(target))
    try:
        subprocess.run([sys.executable, "-c", _CHANGES, target], check=True)
        theirs = trees.snapshot(bytes(target))
    finally:
        roots("rm", "--force", "changed")
    user.script(_CHANGES, container)
    fields = [field for field in trees.FIELDS if field != "mtime"]
    trees.assert_same(snapshot(user, container), theirs, ("user", "root"), fields=fields)
    before = snapshot(user, container)
    user.unionfs("umount", "c")
    user.unionfs("mount", "c", container)
    trees.assert_same(snapshot(user, container), before, ("again", "before"))

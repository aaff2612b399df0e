"""commit by an ordinary user, whose store keeps owners, modes and types in attributes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ordinary import User, ordinary_user
from tests.support.tars import dir_, file, hardlink, tar

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]
LAYER = tar(
    dir_("./", mode=0o755),
    dir_("etc", mode=0o755),
    file("etc/shadow", b"root:*:", mode=0o640, gid=42),
    file("etc/twice", b"2", uid=7),
    hardlink("etc/again", "etc/twice"),
    file("gone", b"x"),
)
CHANGES = """
import os, sys; os.umask(0)
os.chdir(sys.argv[1])
os.chown("etc/shadow", 5, 6); os.chmod("etc/shadow", 0o4711)
open("etc/again", "a").write("more")
os.rename("etc", "moved"); os.unlink("gone"); os.symlink("moved", "etc")
os.mkdir("new", 0o700); os.mkfifo("new/fifo", 0o622)
open("new/untouched", "w").close()
"""


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    with ordinary_user(tmp_path) as found:
        yield found


def test_real_owners_modes_and_types(user: User, tmp_path: Path) -> None:
    (user.home / "root.tar").write_bytes(LAYER)
    user.unionfs("image", "import", f"rootfs:{user.home}/root.tar", "--name", "base")
    user.unionfs("create", "base", "--name", "one")
    root = user.unionfs("mount", "one").strip()
    user.script(CHANGES, root)
    user.unionfs("commit", "one", "two")  # mounted
    user.unionfs("umount", "one")
    user.unionfs("commit", "one", "three")
    for name in ("two", "three"):
        user.unionfs("image", "export", name, f"docker-archive:{user.home}/{name}.tar")
        with tarfile.open(user.home / f"{name}.tar") as archive:
            layers = json.load(archive.extractfile("manifest.json"))[0]["Layers"]
            with tarfile.open(fileobj=archive.extractfile(layers[-1])) as layer:
                found = {one.name: one for one in layer}
        shadow = found["moved/shadow"]
        assert (shadow.uid, shadow.gid, shadow.mode) == (5, 6, 0o4711)
        assert found["new/fifo"].isfifo()
        assert found["new/fifo"].mode == 0o622
        assert found["etc"].issym()
        assert found["moved/again"].uid == 7
        assert found["moved/twice"].islnk()
        assert ".wh.gone" in found
        assert not [one for one in found.values() if "overlay" in str(one.pax_headers)]
        assert not [one for one in found.values() if "override" in str(one.pax_headers)]

"""Owners and modes of new files, and of copies."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.unit.fuse.conftest import Build

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("inline")]


def test_a_setgid_directory_passes_its_group_on(build: Build) -> None:
    user = type("User", (), {"uid": 1000, "gid": 1000, "umask": 0})
    world = build()
    world.mkdir(b"dir", 0o2775)
    world.setattr(b"dir", uid=0, gid=77)
    world.setattr(b"dir", mode=0o2775)
    world.create(b"dir/file", mode=0o644, ctx=user)
    world.mkdir(b"dir/sub", 0o755, user)
    shown = world.dump()
    assert (shown[b"dir/file"].uid, shown[b"dir/file"].gid) == (1000, 77)
    assert (shown[b"dir/sub"].gid, shown[b"dir/sub"].mode) == (77, stat.S_IFDIR | 0o2755)


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6711, 0o1644, 0o600])
def test_special_bits_of_a_new_file_are_kept(build: Build, mode: int, uid: int) -> None:
    world = build()
    world.create(b"file", mode=mode, ctx=type("User", (), {"uid": uid, "gid": uid, "umask": 0}))
    assert stat.S_IMODE(world.getattr(b"file").st_mode) == mode


def test_copy_up_keeps_everything(lower: Path, build: Build) -> None:
    path = lower / "file"
    with path.open("wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
    os.chown(path, 1000, 1001)
    path.chmod(0o6751)
    os.setxattr(path, "user.x", b"\0\xff")
    os.setxattr(
        path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    )
    os.utime(path, ns=(10**18, 10**18 + 7))
    world = build()
    before = world.dump()[b"file"]
    world.setxattr(b"file", b"user.new", b"")
    os.removexattr(world.upperdir + b"/file", b"user.new")
    assert world.dump()[b"file"] == before
    assert os.stat(world.upperdir + b"/file").st_blocks < 100

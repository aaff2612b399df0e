"""Others in an ordinary user's mount (``allow_other``): no kernel checks permissions there, we do.

The tests of callers again, in a mount that shows other owners than there are on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount import test_callers as callers
from tests.support.files import as_user, read, refused, write
from tests.support.layers import apply, emit
from tests.support.mounts import HelperMount
from tests.support.ordinary import GID, UID, User
from tests.support.stacks import Dir, File, Layers, build_stack
from unionfs.ondisk.flavour import Flavour

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

# Those that need nothing but the tree; what is left out mounts by itself, or tries devices.
for _name, _test in vars(callers).items():
    if _name.startswith("test_") and "union" not in _test.__code__.co_varnames:
        globals()[_name] = _test


@pytest.fixture
def union(user: User, tmp_path: Path) -> Iterator:
    """Mount layers, whose owners are written down for it, as the user, for all."""
    made = []

    def mount(layers: Layers) -> HelperMount:
        place = user.home.parent / f"shared{len(os.listdir(user.home.parent))}"
        place.mkdir()
        written = apply(place, emit(layers.lowers[0]), flavour=Flavour.USER).path
        for name in ("upper", "work", "merged"):
            (place / name).mkdir()
        subprocess.run(["chown", "-R", f"{UID}:{GID}", place], check=True)
        as_him = ["setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups", "--"]
        mounted = HelperMount(
            Layers((written,), bytes(place / "upper"), bytes(place / "work")),
            bytes(place / "merged"),
            options=(b"allow_other",),
            program=[*as_him, user.python, "-m", "unionfs"],
            env=user.env,
        )
        made.append(mounted)
        return mounted

    yield mount
    for mounted in made:
        mounted.__exit__(None, None, None)


def test_who_may_write_takes_set_id_bits(union, scratch):
    """Without the extension the kernel asks for it as for a chmod(2), which is not his to ask."""
    root = union(
        build_stack(scratch + b"/s", [[File(b"f", mode=0o6777), File(b"g", mode=0o6777)]])
    ).root
    for name, change in ((b"/f", lambda path: write(path, b"x")), (b"/g", _append)):
        assert as_user(lambda: change(root + name)) == 0  # noqa: B023
        assert os.stat(root + name).st_mode & 0o7777 == 0o777
        os.chmod(root + name, 0o4755)
        with_bits = as_user(lambda: os.chmod(root + name, 0o755))  # noqa: B023
        assert (with_bits, os.stat(root + name).st_mode & 0o7777) == (errno.EPERM, 0o4755)


def test_set_id_bits_that_no_write_takes_are_the_owners(union, scratch):
    """Directories have none; the group's members leave set-group-ID where the group has no x."""
    made = [Dir(b"d", mode=0o2777), File(b"f", mode=0o2767, gid=3000)]
    root = union(build_stack(scratch + b"/s", [made])).root
    for name in (b"/d", b"/f"):
        mode = os.stat(root + name).st_mode & 0o7777
        told = as_user(lambda: os.chmod(root + name, mode & 0o777), groups=(3000,))  # noqa: B023
        assert (told, os.stat(root + name).st_mode & 0o7777) == (errno.EPERM, mode), name


@pytest.mark.needs_extension
def test_with_the_extension_set_id_bits_are_the_owners(union, scratch):
    """There the kernel asks for none, so whoever does calls chmod(2)."""
    root = union(build_stack(scratch + b"/s", [[File(b"f", mode=0o6777)]])).root
    told = as_user(lambda: os.chmod(root + b"/f", 0o777))
    assert (told, os.stat(root + b"/f").st_mode & 0o7777) == (errno.EPERM, 0o6777)


def _append(path: bytes) -> None:
    with open(path, "ab") as file:
        file.write(b"x")


@pytest.fixture
def scratch(user: User) -> bytes:
    place = user.home.parent / f"layers{len(os.listdir(user.home.parent))}"
    place.mkdir()
    return bytes(place)


root = callers.root


def test_a_name_that_root_looked_up_is_not_shown_to_strangers(root: bytes) -> None:
    """The kernel must not answer from memory what it would have to ask us about."""
    assert os.listdir(root + b"/closed") == [b"inside"]
    os.lstat(root + b"/closed/inside")
    for call in (
        lambda: os.lstat(root + b"/closed/inside"),
        lambda: os.lstat(root + b"/closed/none"),
        lambda: read(root + b"/closed/inside"),
    ):
        assert as_user(call) == 13
    os.chmod(root + b"/closed", 0o711)
    assert as_user(lambda: os.lstat(root + b"/closed/inside")) == 0
    os.chmod(root + b"/closed", 0o700)
    assert as_user(lambda: os.lstat(root + b"/closed/inside")) == 13
    write(root + b"/open/shown", b"")
    assert as_user(lambda: os.lstat(root + b"/open/shown")) == 0
    os.rename(root + b"/open/shown", root + b"/closed/shown")
    assert as_user(lambda: os.lstat(root + b"/closed/shown")) == 13


def test_the_mounting_user_is_root(root: bytes) -> None:
    def everything() -> None:
        assert read(root + b"/none") == b"x" * 10
        write(root + b"/closed/new", b"his")
        os.chown(root + b"/closed/new", 1000, 1000)
        os.chmod(root + b"/readable", 0o600)
        os.mkdir(root + b"/made")

    assert as_user(everything, uid=UID, gid=GID) == 0
    assert (os.lstat(root + b"/made").st_uid, os.lstat(root + b"/made").st_gid) == (0, 0)
    assert os.lstat(root + b"/closed/new").st_uid == 1000


def test_nobody_is_asked_who_may_use_a_fifo_or_a_socket(root: bytes) -> None:
    """A limit: the kernel opens them, and asks for no permission where it does not check itself."""
    os.mkfifo(root + b"/fifo", 0o600)
    assert as_user(lambda: os.close(os.open(root + b"/fifo", os.O_RDWR | os.O_NONBLOCK))) == 0
    with contextlib.chdir(root), socket.socket(socket.AF_UNIX) as server:
        server.bind(b"socket")
        os.chmod(b"socket", 0o600)
        server.listen()
        assert as_user(lambda: socket.socket(socket.AF_UNIX).connect(b"socket")) == 0
    os.rename(root + b"/fifo", root + b"/closed/fifo")
    assert as_user(lambda: os.open(root + b"/closed/fifo", os.O_RDONLY | os.O_NONBLOCK)) == 13


def test_an_acl_lets_in_whom_it_names(root: bytes) -> None:
    secret = root + b"/mine/file"
    subprocess.run(["setfacl", "-m", "u:1001:r,o::-", secret], check=True)
    assert as_user(lambda: read(secret), uid=1001, gid=1001) == 0
    assert as_user(lambda: write(secret, b""), uid=1001, gid=1001) == 13
    assert as_user(lambda: read(secret), uid=1002, gid=1002) == 13
    with refused(13):
        raise OSError(as_user(lambda: os.listxattr(root + b"/closed/inside")), "")


def test_attributes_of_a_sticky_directory_are_its_owners(scratch: bytes, union: Callable) -> None:
    """As its names are those of who made them (xattr(7)), though everybody may write."""
    sticky = Dir(b"tmp", mode=0o1777, uid=1001, xattrs=(("user.old", b"1"),))
    layers = build_stack(scratch + b"/s", [[sticky]])
    for root in (layers.lowers[0], union(layers).root):
        for change in (_set_attribute, _remove_attribute):
            assert as_user(lambda: change(root + b"/tmp")) == errno.EPERM  # noqa: B023
            assert as_user(lambda: change(root + b"/tmp"), uid=1001) == 0  # noqa: B023


def _set_attribute(path: bytes) -> None:
    os.setxattr(path, "user.new", b"1")


def _remove_attribute(path: bytes) -> None:
    os.removexattr(path, "user.old")


def test_a_directory_is_given_the_group_by_its_members(scratch: bytes, union: Callable) -> None:
    """Its owner cannot set set-group-ID where he is not in the group (chmod(2))."""
    layers = build_stack(scratch + b"/s", [[Dir(b"d", mode=0o755, uid=1000, gid=3000)]])
    for root in (layers.lowers[0], union(layers).root):
        for groups, found in ((), 0o775), ((3000,), 0o2775):
            assert as_user(lambda: os.chmod(root + b"/d", 0o2775), groups=groups) == 0  # noqa: B023
            assert os.stat(root + b"/d").st_mode & 0o7777 == found


def test_an_acl_that_lets_nobody_in_is_not_asked(scratch: bytes, union: Callable) -> None:
    """With an empty mask Linux goes by the mode alone (acl_permission_check()): others may read."""
    entries = ((1, 6, -1), (2, 6, 1000), (4, 4, -1), (8, 6, 3000), (16, 0, -1), (32, 4, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    file = File(b"f", mode=0o604, xattrs=(("system.posix_acl_access", acl),))
    layers = build_stack(scratch + b"/s", [[file]])
    for root in (layers.lowers[0], union(layers).root):
        for who, told in (
            ({}, 0), ({"uid": 1001, "groups": (3000,)}, 0), ({"uid": 1001, "gid": 0}, errno.EACCES)
        ):  # fmt: skip
            assert as_user(lambda: read(root + b"/f"), **who) == told  # noqa: B023


def test_a_closed_file_is_closed_in_the_daemon_too(scratch: bytes, union: Callable) -> None:
    """A removed file would take room on the disk, and the daemon run out of descriptors."""
    mounted = union(build_stack(scratch + b"/s", [[File(b"lower")]]))
    descriptors = f"/proc/{mounted.pid}/fd"
    for number in range(5):
        write(mounted.root + b"/made%d" % number, b"x" * 100)
        os.unlink(mounted.root + b"/made%d" % number)
    read(mounted.root + b"/lower")

    def left() -> list[str]:
        found = [os.readlink(f"{descriptors}/{fd}") for fd in os.listdir(descriptors)]
        return [path for path in found if path.endswith(("(deleted)", "/lower"))]

    deadline = time.monotonic() + 5  # a release is sent after close(2) has returned
    while left() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [path for path in left() if "unionfs-" not in path] == []


def test_a_protected_file_is_refused_before_the_directory_is(union: Callable, scratch: bytes):
    """As do_linkat() does: EPERM for what ``fs.protected_hardlinks`` protects, wherever it goes."""
    made = [Dir(b"d"), File(b"f", mode=0o600)]
    root = union(build_stack(scratch + b"/s", [made])).root
    assert as_user(lambda: os.link(root + b"/f", root + b"/d/n")) == errno.EPERM

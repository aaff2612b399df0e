"""Mistakes that were made once, each with what went wrong."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyfuse3
import pytest

from tests.support.faults import Faults
from tests.support.files import refused
from tests.support.worlds import ROOT
from tests.unit.fuse.conftest import Build
from unionfs.fuse import guard, native
from unionfs.ondisk.whiteout import is_whiteout

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("inline")]

DEFAULT_ACL = struct.pack(
    "<I" + "HHI" * 5,
    *(2, 1, 7, 2**32 - 1, 2, 7, 1000, 4, 5, 2**32 - 1, 0x10, 7, 2**32 - 1, 0x20, 5, 2**32 - 1),
)


def _fail(faults: Faults, place: str, action) -> None:
    """Let the first call at *place* fail in *action*, which must say so."""
    faults.start(place=place)
    with faults.armed(), pytest.raises(OSError, match="Input/output"):
        action()
    assert faults.hit


def test_a_failed_unlink_leaves_no_hold_on_the_lower_file(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node kept the lower file's descriptor, and later writes went to the layer."""
    (lower / "file").write_bytes(b"content")
    world = build()
    world.lookup(b"file")
    _fail(Faults(monkeypatch), "link in share_whiteout", lambda: world.unlink(b"file"))
    world.write(b"file", b"WRITTEN")
    world.setattr(b"file", mode=0o600)
    assert world.read(b"file") == b"WRITTEN"
    assert (lower / "file").read_bytes() == b"content"
    assert (lower / "file").stat().st_mode & 0o777 == 0o644 | (0o666 & 0o022)


def test_a_failed_rmdir_leaves_no_hold_on_the_lower_directory(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lower / "dir").mkdir(0o755)
    world = build()
    world.lookup(b"dir")
    _fail(Faults(monkeypatch), "link in share_whiteout", lambda: world.rmdir(b"dir"))
    world.setattr(b"dir", mode=0o700)
    assert world.getattr(b"dir").st_mode & 0o777 == 0o700
    assert (lower / "dir").stat().st_mode & 0o777 == 0o755


def test_when_no_whiteout_could_be_made_the_next_unlink_makes_it(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the shared whiteout was kept although making it had failed."""
    (lower / "file").touch()
    world = build()
    _fail(Faults(monkeypatch), "mknod in make_whiteout", lambda: world.unlink(b"file"))
    world.unlink(b"file")
    assert world.names(b"") == []


def test_the_shared_whiteout_is_replaced_when_it_has_no_link_left(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        (lower / name).touch()
    world = build()
    world.unlink(b"one")
    assert world.work is not None
    first = world.work._whiteout

    def full(*args: object) -> None:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    with monkeypatch.context() as patch:
        patch.setattr("unionfs.upper.work.share_whiteout", full)
        world.unlink(b"two")
    world.unlink(b"three")
    assert world.work._whiteout not in (b"", first)
    upper = os.fsdecode(world.upperdir)
    assert all(is_whiteout(os.lstat(f"{upper}/{name}")) for name in ("one", "two", "three"))


def test_fuse_overlayfs_attributes_cannot_be_set_through_the_mount(build: Build) -> None:
    """The container could mark a directory opaque, which the next mount would have obeyed."""
    world = build()
    world.mkdir(b"dir")
    with pytest.raises(PermissionError):
        world.setxattr(b"dir", b"user.fuseoverlayfs.opaque", b"y")
    with pytest.raises(OSError, match="No data"):
        world.do("removexattr", world.lookup(b"dir"), b"user.fuseoverlayfs.opaque", None)


def test_our_marks_are_escaped(build: Build) -> None:
    world = build()
    world.mkdir(b"dir")
    world.setxattr(b"dir", b"trusted.overlay.opaque", b"y")
    assert world.dump()[b"dir"].xattrs == ((b"trusted.overlay.opaque", b"y"),)
    assert os.listxattr(world.upperdir + b"/dir") == ["trusted.overlay.overlay.opaque"]


@pytest.mark.parametrize("number", [512, 524, 4096])
def test_the_kernels_own_error_numbers_become_eio(number: int) -> None:
    """/dev/fuse refuses an answer with such a number, and the caller waits for ever."""
    assert guard.failure(OSError(number, "odd"), "test").errno == errno.EIO
    assert guard.failure(OSError(errno.ENOTEMPTY, ""), "test").errno == errno.ENOTEMPTY


def test_a_workdir_with_a_default_acl_and_setgid_passes_nothing_on(
    tmp_path: Path, lower: Path, build: Build
) -> None:
    """What is made or copied in it came out with the ACL and the group of the work directory."""
    (lower / "file").write_bytes(b"x")
    (lower / "file").chmod(0o644)
    work = tmp_path / "world" / "work"
    work.mkdir(parents=True)
    os.chown(work, 0, 1234)
    work.chmod(0o2755)
    os.setxattr(work, "system.posix_acl_default", DEFAULT_ACL)
    world = build()
    user = type("User", (), {"uid": 1000, "gid": 1000, "umask": 0})
    world.write(b"file", b"y")
    world.mkdir(b"dir", 0o755, user)
    world.create(b"new", mode=0o640, ctx=user)
    for name, mode in ((b"file", 0o644), (b"dir", 0o755), (b"new", 0o640)):
        seen = world.dump()[name]
        assert (stat.S_IMODE(seen.mode), seen.xattrs) == (mode, ()), name
        assert seen.gid != 1234


def test_another_workdir_does_not_mix_files_up(lower: Path, build: Build) -> None:
    """Two upper files with one origin (its index was lost) were taken for links of one file."""
    (lower / "one").write_bytes(b"linked")
    os.link(lower / "one", lower / "two")
    world = build()
    world.write(b"one", b"first ")
    world.close()
    shutil.move(world.workdir, world.workdir + b".old")
    world = build()
    world.write(b"two", b"second")
    world.close()
    world = build()
    assert (world.read(b"one"), world.read(b"two")) == (b"first ", b"second")
    assert world.lookup(b"one") != world.lookup(b"two")


def test_more_filesystems_than_the_number_has_room_for(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lower / "file").touch()
    monkeypatch.setattr("unionfs.fuse.numbers.FILESYSTEMS", 0)
    world = build()
    numbers = {world.lookup(b"file"), world.lookup(b"file")}
    assert len(numbers) == 1
    assert 0xFF << 56 < numbers.pop() < 1 << 64


def _anchors(world) -> int:
    return sum(node.anchor >= 0 for node in world.nodes())


def test_copied_hard_links_keep_no_descriptor_each(lower: Path, build: Build) -> None:
    """``chown -R`` of an image with many hard links ran out of descriptors."""
    for number in range(20):
        (lower / f"{number}").touch()
        os.link(lower / f"{number}", lower / f"{number}-again")
    world = build()
    for number in range(20):
        world.setattr(b"%d" % number, uid=5)
    assert _anchors(world) == 0
    for number in range(20):
        world.unlink(b"%d" % number)
    assert world.getattr(b"7-again").st_uid == 5
    for number in range(20):
        world.setattr(b"%d-again" % number, gid=6)
        world.unlink(b"%d-again" % number)
    assert world.names(b"") == []


def test_a_file_is_found_by_the_name_that_it_has_left(build: Build) -> None:
    world = build()
    for number in range(20):
        world.create(b"%d" % number, b"%d" % number)
        world.link(b"%d" % number, b"%d-again" % number)
        world.unlink(b"%d" % number)
        assert world.read(b"%d-again" % number) == b"%d" % number
    assert _anchors(world) == 0
    world.rename(b"3-again", b"3")
    world.write(b"3", b"x")
    assert world.read(b"3") == b"x"


def test_openers_go_on_with_the_copy_though_no_descriptor_is_to_be_had(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy was opened anew after it was published: EMFILE left all with the lower content."""
    (lower / "file").write_bytes(b"old content")
    world = build()
    reader = world.open(b"file", os.O_RDONLY)

    def full(*args: object, **kwargs: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("unionfs.fuse.files.Files._open_fd", full)
    world.setattr(b"file", size=3)
    assert world.do("read", reader, 0, 100) == b"old"
    assert world.getattr(b"file").st_size == 3
    world.do("release", reader)


@contextmanager
def _close_tells_of_an_error(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """As it may on FUSE and NFS."""
    real = os.close

    def close(fd: int) -> None:
        real(fd)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with patch.context() as context:
        context.setattr(os, "close", close)
        yield


def test_an_error_of_close_leaves_no_number_of_another_file(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node kept the number, and served what was opened next, or closed it once more."""
    world = build()
    world.create(b"file", b"content")
    node = world.node(b"file")
    handle = world.open(b"file", os.O_RDWR)
    with _close_tells_of_an_error(monkeypatch):
        world.do("release", handle)
    assert node.file is None


def test_openers_go_on_with_the_copy_though_close_tells_of_an_error(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lower / "file").write_bytes(b"content")
    world = build()
    node = world.node(b"file")
    handle = world.open(b"file", os.O_RDONLY)
    old, new = node.file.fd, os.open(lower / "file", os.O_RDONLY)
    with _close_tells_of_an_error(monkeypatch):
        world.ops.files.go_on_with(node, new, writable=False)
    assert node.file.fd == new != old
    world.do("release", handle)


def test_an_error_of_close_does_not_keep_what_was_removed(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = build()
    world.create(b"file")
    node = world.node(b"file")
    world.unlink(b"file")
    assert node.anchor >= 0
    with _close_tells_of_an_error(monkeypatch):
        world.ops.inodes.forget(node.ino, node.nlookup)
    assert node.anchor == -1


def test_no_descriptor_is_lost_where_there_are_too_few_for_a_copied_range(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try left one open, until there was none for anybody."""
    world = build()
    for name in (b"one", b"two"):
        world.create(name, b"x")
    left, real = [1], os.dup

    def dup(fd: int) -> int:
        if not left:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        left.pop()
        return real(fd)

    asked = 47, struct.pack("=7Q", 0, 0, world.lookup(b"two"), 0, 0, 1 << 21, 0)
    monkeypatch.setattr(native, "carried", lambda: asked)
    monkeypatch.setattr(os, "dup", dup)
    world.do("open", world.lookup(b"one"), os.O_RDONLY, ROOT)
    world.do("open", world.lookup(b"two"), os.O_RDWR, ROOT)
    before = os.listdir("/proc/self/fd")
    with refused(errno.EMFILE):
        world.do("getxattr", world.lookup(b"one"), native.CARRIER, ROOT)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("verb", ["create", "mkdir"])
def test_a_name_that_was_made_is_not_remembered_as_absent(
    build: Build, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """When the answer's stat failed, the kernel kept saying ENOENT for a name that ls showed."""
    told: list[tuple[int, bytes]] = []

    def tell(parent: int, name: bytes, *, ignore_enoent: bool) -> None:
        told.append((parent, name))

    monkeypatch.setattr(pyfuse3, "invalidate_entry_async", tell)
    world = build()

    def full(node: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(world.tree, "stat", full)
        patch.setattr(world.tree, "stat_open", full)
        with pytest.raises(OSError, match="Too many"):
            getattr(world, verb)(b"new")
    assert told == [(1, b"new")]
    assert world.names(b"") == [b"new"]
    assert world.ops.files.nodes == {}


def test_a_read_only_mount_finds_the_copies_of_hard_links(lower: Path, build: Build) -> None:
    """It asked no index: the other name showed the old content, and was another file."""
    (lower / "one").write_bytes(b"old")
    os.link(lower / "one", lower / "two")
    world = build()
    world.write(b"one", b"new")
    world.close()
    again = build(read_only=True)
    assert again.read(b"two") == b"new"
    assert again.lookup(b"one") == again.lookup(b"two")
    with pytest.raises(OSError, match="Read-only"):
        again.write(b"two", b"x")


def test_what_goes_wrong_in_forget_ends_nothing(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyfuse3 takes no FUSEError there: the mount ended when one reference could not be let go."""
    world = build()
    world.create(b"one")
    world.create(b"two")
    forget = world.ops.inodes.forget
    first, second = world.lookup(b"one"), world.lookup(b"two")

    def failing(ino: int, count: int) -> object:
        if ino == first:
            raise RuntimeError
        return forget(ino, count)

    monkeypatch.setattr(world.ops.inodes, "forget", failing)
    references = world.ops.inodes[second].nlookup
    asked = world.ops.forget([(first, 1), (second, references)])  # as pyfuse3 calls it
    with pytest.raises(StopIteration):
        asked.send(None)
    with refused(errno.ESTALE):
        world.ops.inodes[second]


def test_no_file_has_the_number_that_the_root_shows(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After commit --rebase a new file had the inode of the old upper directory, whose it was."""
    (lower / "file").write_bytes(b"x")
    world = build()
    inodes = world.ops.inodes
    with monkeypatch.context() as patch:
        patch.setattr(world.tree, "stat", lambda node: (lower / "file").stat())
        shown = inodes.root_number()
    node = world.tree.load(world.tree.root)[b"file"]
    assert shown & 0xFFFFFFFF == node.born and inodes.expected(node) == 0
    assert world.lookup(b"file") != shown

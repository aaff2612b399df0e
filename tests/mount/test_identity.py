"""Inode numbers: the same through every change and remount, the same in listings, never shared."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable

import pytest

from tests.support import kernel, trees
from tests.support.files import ino, opened, refused, write
from tests.support.kernel import getdents
from tests.support.stacks import Dir, File, Layers, Link, build_layer, build_stack, rich_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

Numbers = dict[bytes, int]


@pytest.fixture(params=["extension", "pure"], autouse=True)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pure":
        monkeypatch.setenv("UNIONFS_PURE", "1")


@pytest.fixture(params=["one filesystem", "several"])
def layers(request: pytest.FixtureRequest, scratch):
    """A stack with one of everything, all on one filesystem, or each layer on its own."""
    if request.param == "one filesystem":
        yield build_stack(scratch + b"/s", rich_stack())
        return
    made: list[bytes] = []
    try:
        for number, layer in enumerate(rich_stack()):
            at = scratch + b"/f%d" % number
            os.mkdir(at)
            kernel.mount(b"unionfs-test", at, b"tmpfs")
            made.append(at)
            build_layer(at + b"/lower", layer, generation=number)
        upper, work = scratch + b"/upper", scratch + b"/work"
        os.mkdir(upper)
        os.mkdir(work)
        yield Layers(tuple(at + b"/lower" for at in reversed(made)), upper, work)
    finally:
        for at in made:
            kernel.umount(at, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)


def _numbers(root: bytes) -> Numbers:
    """Return st_ino by path; whatever does not fit together in the tree is a failure."""
    tree = trees.snapshot(root, content=False)
    assert tree.faults == []
    return {path: node.ino for path, node in tree.nodes.items() if path != b"."}


def _copy_everything_up(root: bytes, paths: Numbers) -> None:
    for path in paths:
        os.utime(root + b"/" + path, ns=(1, 1), follow_symlinks=False)


def test_copy_up_and_remount_change_no_number(union, layers):
    first = union(layers)
    before = _numbers(first.root)
    _copy_everything_up(first.root, before)
    assert _numbers(first.root) == before
    first.unmount()
    second = union(layers)
    assert _numbers(second.root) == before
    second.unmount()
    assert _numbers(union(layers, options=(b"ro",)).root) == before


def test_all_is_on_one_device(union, layers):
    """As on a local filesystem, wherever the layers are: ``find -xdev``, ``du -x`` see all of it.

    The kernel's overlayfs needs xino for that, and its layers' inode numbers to be short.
    """
    root = union(layers).root
    paths = [b".", *_numbers(root)]
    for _ in range(2):
        devices = {path: os.lstat(root + b"/" + path).st_dev for path in paths}
        assert set(devices.values()) == {os.lstat(root).st_dev}, devices
        found = subprocess.run(["find", b".", "-xdev", "-print0"], cwd=root, stdout=subprocess.PIPE)
        assert sorted(found.stdout.split(b"\0")[1:-1]) == sorted(b"./" + path for path in paths[1:])
        _copy_everything_up(root, dict.fromkeys(paths[1:], 0))


def test_a_32_bit_program_can_have_them(union, layers):
    """stat(2) and readdir(3) without large files have no room for more, and fail (EOVERFLOW)."""
    root = union(layers).root
    assert max(_numbers(root).values()) < 1 << 32
    _copy_everything_up(root, _numbers(root))
    write(root + b"/merged/fresh", b"")
    os.mkdir(root + b"/dir/new")
    assert max(_numbers(root).values()) < 1 << 32


def test_every_name_moved(union, layers):
    """Files within and across directories, then every directory: each keeps its number."""
    first = union(layers)
    root = first.root
    expected = _numbers(root)
    for path in [path for path in expected if not os.path.isdir(root + b"/" + path)]:
        name = os.path.basename(path)
        new = b"merged/x-" + name[:200] if len(path) % 2 else path[:200] + b"-x"
        os.rename(root + b"/" + path, root + b"/" + new)
        expected[new] = expected.pop(path)
    assert _numbers(root) == expected
    for path in [path for path in os.listdir(root) if os.path.isdir(root + b"/" + path)]:
        os.rename(root + b"/" + path, root + b"/moved-" + path)
        inside = [old for old in expected if old == path or old.startswith(path + b"/")]
        expected.update({b"moved-" + old: expected.pop(old) for old in inside})
    assert _numbers(root) == expected
    first.unmount()
    assert _numbers(union(layers).root) == expected


def test_listed_before_anything_is_looked_up(union, layers):
    """What a listing of a fresh mount says, and then stat, of a tree that is partly copied up."""
    first = union(layers)
    for path in (b"links/second", b"dir/plain", b"merged/two"):
        os.chmod(first.root + b"/" + path, 0o600)
    first.unmount()
    root = union(layers).root
    for folder, _dirs, _files in os.walk(root):
        with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
            listed = {entry.name: entry.ino for entry in getdents(fd)}
        seen = {name: ino(folder + b"/" + name) for name in listed if name not in (b".", b"..")}
        assert {name: listed[name] for name in seen} == seen
        if folder != root:
            assert listed[b"."] == ino(folder)
            above = os.path.dirname(folder)
            assert above == root or listed[b".."] == ino(above)
    assert len({ino(root + b"/" + name) for name in (b"links/first", b"links-third")}) == 1


@pytest.mark.needs_kernel_overlay
def test_the_kernel_shows_the_same_numbers(scratch, union, overlay):
    """On one filesystem a number is the file's own there as well, and stays when we take turns."""
    layers = build_stack(scratch + b"/s", rich_stack())
    with overlay(layers) as there:
        before = _numbers(there.root)
    first = union(layers)
    assert _numbers(first.root) == before
    for path in (b"links/second", b"dir/plain", b"merged/two", b"symlink", b"fifo"):
        os.chown(first.root + b"/" + path, 5, 5, follow_symlinks=False)
    os.rename(first.root + b"/merged", first.root + b"/renamed")
    now = _numbers(first.root)
    assert sorted(now.values()) == sorted(before.values())
    first.unmount()
    with overlay(layers) as there:
        assert _numbers(there.root) == now
        os.chmod(there.root + b"/dir/sub/other", 0o600)
        os.link(there.root + b"/attrs", there.root + b"/attrs-linked")
        now = _numbers(there.root)
    assert _numbers(union(layers).root) == now


def test_never_shared_with_a_file_that_has_no_name_any_more(scratch, union):
    """Files are removed while open, and new ones are made in their place."""
    layers = build_stack(scratch + b"/s", [[File(b"d/%d" % n) for n in range(40)], [Dir(b"e")]])
    root = union(layers).root
    fds, living = [], set()
    try:
        for n in range(40):
            for path in (root + b"/d/%d" % n, root + b"/e/%d" % n):
                fds.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                if n % 3 == 0:
                    os.write(fds[-1], b"changed")
                living.add(ino(path))
                os.unlink(path)
        assert len(living) == len(fds)
        for n in range(80):
            write(root + b"/e/new%d" % n, b"")
            os.mkdir(root + b"/d/%d" % n)
            living |= {ino(root + b"/e/new%d" % n), ino(root + b"/d/%d" % n)}
        assert len(living) == len(fds) + 160
        assert {os.fstat(fd).st_ino for fd in fds} < living
    finally:
        for fd in fds:
            os.close(fd)


def test_a_filesystem_in_a_layer_lists_the_numbers_that_its_files_have(scratch, union):
    """A mount, or a subvolume of btrfs: its inode numbers are those of other files of the layer."""
    layers = build_stack(scratch + b"/s", [[Dir(b"n"), *(File(b"d/%d" % n) for n in range(9))]])
    nested = layers.lowers[0] + b"/n"
    kernel.mount(b"unionfs-test", nested, b"tmpfs")
    try:
        for n in range(300):
            write(nested + b"/%d" % n, b"")
        mounted = union(layers)
        with opened(mounted.root + b"/n", os.O_RDONLY | os.O_DIRECTORY) as fd:
            listed = {entry.name: entry.ino for entry in getdents(fd)[2:]}
        assert listed == {name: ino(mounted.root + b"/n/" + name) for name in listed}
        mounted.unmount()
    finally:
        kernel.umount(nested, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)


@pytest.mark.needs_loop
def test_a_handle_of_a_removed_file_opens_no_other(disk, union):
    """ext4 gives its inode number to a new file, into which an NFS client would then write."""
    root = union(build_stack(disk.root + b"/s", [[File(b"low")]])).root
    handles = {}
    for n in range(40):
        write(root + b"/old%d" % n, b"old")
        handles[ino(root + b"/old%d" % n)] = kernel.handle_of(root + b"/old%d" % n)
    with opened(root, os.O_RDONLY | os.O_DIRECTORY) as fd:
        for n, number in enumerate(handles):
            os.chmod(root + b"/old%d" % n, 0o600)
            os.rename(root + b"/old%d" % n, root + b"/moved")
            assert _number_of(fd, handles[number]) == number
            os.unlink(root + b"/moved")
        taken = []
        for n in range(400):
            write(root + b"/new%d" % n, b"new")
            number = ino(root + b"/new%d" % n)
            assert _number_of(fd, kernel.handle_of(root + b"/new%d" % n)) == number
            if number in handles:
                taken.append(number)
                with refused(errno.ESTALE):
                    _number_of(fd, handles[number])
    assert len(taken) > 20


def _number_of(mount_fd: int, handle: kernel.Handle) -> int:
    fd = kernel.open_handle(mount_fd, handle)
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def _chmod(path: bytes) -> None:
    os.chmod(path, 0o600)


def _write(path: bytes) -> None:
    write(path, b"new content")


def _move(path: bytes) -> None:
    os.rename(path, path + b"-moved")
    os.rename(path + b"-moved", path)


def _cover(path: bytes) -> None:
    write(path + b"-other", b"")
    kernel.renameat2(path, path + b"-other", kernel.RENAME_EXCHANGE)
    kernel.renameat2(path, path + b"-other", kernel.RENAME_EXCHANGE)
    os.unlink(path + b"-other")


@pytest.mark.parametrize("change", [_chmod, _write, _move, _cover])
def test_st_dev_and_st_ino_seen_by_descriptors(scratch, union, change: Callable[[bytes], None]):
    """Whether opened before or after, by path only or for writing: the same file."""
    layers = build_stack(scratch + b"/s", [[File(b"d/f"), Link(b"d/g", b"d/f"), File(b"d/h")]])
    root = union(layers).root
    for name in (b"/d/f", b"/d/h"):
        with (
            opened(root + name, os.O_RDONLY) as reading,
            opened(root + name, os.O_PATH) as path,
        ):
            before = os.fstat(reading)
            change(root + name)
            with opened(root + name, os.O_RDWR) as writing:
                for fd in (reading, path, writing):
                    assert os.path.samestat(os.fstat(fd), before)
                    assert os.fstat(fd).st_nlink == before.st_nlink
            assert os.path.samestat(os.lstat(root + name), before)

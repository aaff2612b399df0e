"""What layers may hold: every whiteout, what other drivers wrote, long names, many layers."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from tests.support import trees
from tests.support.files import opened, read, refused, write
from tests.support.kernel import getdents
from tests.support.stacks import (
    Dir,
    File,
    Layers,
    Link,
    Whiteout,
    build_layer,
    build_stack,
    rich_stack,
)

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.mark.needs_kernel_overlay
def test_one_of_everything_looks_as_on_the_kernels_overlayfs(scratch, union, overlay):
    layers = build_stack(scratch + b"/s", rich_stack())
    with overlay(layers) as there:
        theirs = trees.snapshot(there.root)
    mounted = union(layers)
    trees.assert_same(theirs, trees.snapshot(mounted.root), ("kernel", "union"))
    mounted.unmount()
    read_only = union(layers.read_only())
    trees.assert_same(theirs, trees.snapshot(read_only.root), ("kernel", "union, read-only"))


@pytest.mark.needs_kernel_overlay
def test_everything_copied_up_still_looks_the_same(scratch, union, overlay):
    """chown of the whole tree to what it is: contents, times, links, holes and marks stay."""
    layers = build_stack(scratch + b"/s", rich_stack())
    mounted = union(layers)
    before = trees.snapshot(mounted.root)
    subprocess.run(["chmod", "-R", "--", "u+s", mounted.root], check=True)
    for path, node in before.nodes.items():
        if node.kind != "symlink":
            os.chmod(mounted.root + b"/" + path, node.mode)
    after = trees.snapshot(mounted.root)
    trees.assert_same(before, after, ("before", "after"))
    mounted.unmount()
    trees.assert_same(before, trees.snapshot(overlay(layers).root), ("before", "kernel"))
    again = union(layers)
    trees.assert_same(before, trees.snapshot(again.root), ("before", "remounted"))


def test_aufs_whiteouts_in_lowers(scratch, union):
    """What container engines unpack: ``.wh.NAME`` hides NAME below, ``.wh..wh..opq`` everything."""
    layers = build_stack(
        scratch + b"/s",
        [
            [File(b"gone"), File(b"dir-gone/x"), File(b"opq/below"), File(b"stays"), File(b"same")],
            [
                File(b".wh.gone", size=0),
                File(b".wh.dir-gone", size=0),
                File(b"opq/.wh..wh..opq", size=0),
                File(b"opq/above"),
                File(b".wh.same", size=0),
                File(b"same", b"of the same layer", 17),
                File(b".wh..wh.plnk", size=0),
            ],
        ],
    )
    root = union(layers).root
    assert sorted(os.listdir(root)) == [b"opq", b"same", b"stays"]
    assert os.listdir(root + b"/opq") == [b"above"]
    assert read(root + b"/same") == b"of the same layer"
    for name in (b"/gone", b"/dir-gone/x", b"/opq/below", b"/.wh.gone", b"/opq/.wh..wh..opq"):
        with refused(errno.ENOENT):
            os.lstat(root + name)
    os.mkdir(root + b"/dir-gone")
    assert os.listdir(root + b"/dir-gone") == []


@pytest.mark.parametrize("name", [b".wh.x", b".wh.", b".wh..wh..opq"])
def test_names_that_would_be_whiteouts_cannot_be_made(scratch, union, name):
    root = union(build_stack(scratch + b"/s", [[File(b"f"), Dir(b"d")]])).root
    path = root + b"/" + name
    for call in (
        lambda: write(path, b""),
        lambda: os.mkdir(path),
        lambda: os.symlink(b"x", path),
        lambda: os.link(root + b"/f", path),
        lambda: os.rename(root + b"/f", path),
        lambda: os.mkfifo(path),
    ):
        with refused(errno.EINVAL):
            call()
    assert sorted(os.listdir(root)) == [b"d", b"f"]


def test_whiteouts_in_directories_that_hide_nothing(scratch, union):
    """In the bottom layer or an opaque directory a whiteout is still no file."""
    layers = build_stack(
        scratch + b"/s",
        [
            [Whiteout(b"bottom"), Whiteout(b"d/inner"), File(b"d/real"), File(b"o/x")],
            [Dir(b"o", opaque=True), Whiteout(b"o/x"), Whiteout(b"o/y"), File(b"o/z")],
        ],
    )
    root = union(layers).root
    assert sorted(os.listdir(root)) == [b"d", b"o"]
    assert os.listdir(root + b"/d") == [b"real"]
    assert os.listdir(root + b"/o") == [b"z"]
    os.unlink(root + b"/d/real")
    os.rmdir(root + b"/d")
    write(root + b"/bottom", b"made")
    assert read(root + b"/bottom") == b"made"


@pytest.mark.needs_kernel_overlay
def test_whiteouts_as_attributes(scratch, union, overlay):
    """``overlay.whiteout`` on an empty file in a directory marked ``overlay.opaque=x``."""
    layers = build_stack(
        scratch + b"/s",
        [[File(b"d/gone"), File(b"d/stays")], [File(b"d/gone", size=0), File(b"d/new", size=0)]],
    )
    top = layers.lowers[0]
    os.setxattr(top + b"/d", "trusted.overlay.opaque", b"x")
    os.setxattr(top + b"/d/gone", "trusted.overlay.whiteout", b"")
    with overlay(layers) as there:
        theirs = trees.snapshot(there.root)
    mounted = union(layers)
    trees.assert_same(theirs, trees.snapshot(mounted.root), ("kernel", "union"))
    assert sorted(os.listdir(mounted.root + b"/d")) == [b"new", b"stays"]


def test_names_of_255_bytes_and_256(scratch, union):
    long = b"l" * 255
    layers = build_stack(scratch + b"/s", [[File(b"d/" + long), Dir(b"e/" + long)]])
    root = union(layers).root
    new = b"n" * 255
    os.rename(root + b"/d/" + long, root + b"/" + new)
    os.mkdir(root + b"/d/" + long)
    os.unlink(root + b"/" + new)
    os.rmdir(root + b"/e/" + long)
    assert os.listdir(root + b"/d") == [long]
    assert os.listdir(root + b"/e") == []
    for call in (
        lambda: os.mkdir(root + b"/" + b"x" * 256),
        lambda: os.lstat(root + b"/" + b"x" * 256),
        lambda: os.rename(root + b"/d", root + b"/" + b"x" * 256),
    ):
        with refused(errno.ENAMETOOLONG):
            call()


def test_paths_beyond_path_max(scratch, union):
    """Twenty levels of 250 bytes: reached by walking, in a lower and in the upper."""
    layers = build_stack(scratch + b"/s", [[]])
    name = b"d" * 250
    _make_deep(layers.lowers[0], name, 20)
    mounted = union(layers)
    fd = _walk(mounted.root, name, 20)
    with open(os.open(b"deep", os.O_RDONLY, dir_fd=fd), "rb") as file:
        assert file.read() == b"deep"
    with open(os.open(b"deep", os.O_WRONLY, dir_fd=fd), "wb") as file:
        file.write(b"DEEP")
    os.mkdir(b"below", dir_fd=fd)
    os.rename(b"deep", b"below/deeper", src_dir_fd=fd, dst_dir_fd=fd)
    assert os.listdir(fd) == ["below"]
    os.close(fd)
    os.rename(mounted.root + b"/" + name, mounted.root + b"/moved")
    mounted.unmount()
    again = union(layers)
    fd = _walk(again.root + b"/moved", name, 19)
    with open(os.open(b"below/deeper", os.O_RDONLY, dir_fd=fd), "rb") as file:
        assert file.read() == b"DEEP"
    os.close(fd)


def test_two_thousand_levels(scratch, union):
    """Deeper than Python recurses, in paths that no call takes: reached and removed by walking."""
    depth = 2000
    layers = build_stack(scratch + b"/s", [[]])
    _make_deep(layers.lowers[0], b"d", depth)
    mounted = union(layers)
    fd = _walk(mounted.root, b"d", depth)
    assert os.stat(b"deep", dir_fd=fd).st_size == 4
    with open(os.open(b"deep", os.O_WRONLY | os.O_APPEND, dir_fd=fd), "ab") as file:
        file.write(b"er")
    os.close(fd)
    os.rename(mounted.root + b"/d", mounted.root + b"/moved")
    mounted.unmount()
    root = union(layers).root
    fd = _walk(root + b"/moved", b"d", depth - 1)
    with open(os.open(b"deep", os.O_RDONLY, dir_fd=fd), "rb") as file:
        assert file.read() == b"deeper"
    os.unlink(b"deep", dir_fd=fd)
    for _ in range(depth - 1):
        above = os.open(b"..", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = above
        os.rmdir(b"d", dir_fd=fd)
    os.close(fd)
    os.rmdir(root + b"/moved")
    assert os.listdir(root) == []


def _make_deep(root: bytes, name: bytes, depth: int) -> None:
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open(b"deep", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
        file.write(b"deep")
    os.close(fd)


def _walk(root: bytes, name: bytes, depth: int) -> int:
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def test_five_hundred_layers(scratch, union):
    """Each with a file of its own, a common one, and a directory that merges them all."""
    folder = scratch + b"/many"
    os.mkdir(folder)
    count = 500
    for number in range(count):
        build_layer(
            folder + b"/%d" % number,
            [
                File(b"own-%d" % number),
                File(b"common", b"%03d" % number, 3),
                File(b"d/%d" % number),
            ],
        )
    os.mkdir(folder + b"/upper")
    os.mkdir(folder + b"/work")
    lowers = tuple(folder + b"/%d" % number for number in reversed(range(count)))
    root = union(Layers(lowers, folder + b"/upper", folder + b"/work")).root
    assert len(os.listdir(root)) == count + 2
    assert len(os.listdir(root + b"/d")) == count
    assert read(root + b"/common") == b"499"
    write(root + b"/own-0", b"new")
    assert read(root + b"/own-0") == b"new"
    os.rename(root + b"/d", root + b"/e")
    assert len(os.listdir(root + b"/e")) == count


def test_few_descriptors_are_enough_for_many_layers(scratch, union):
    """RLIMIT_NOFILE of 256 with 60 layers of merged directories: no EMFILE for the caller."""
    folder = scratch + b"/many"
    os.mkdir(folder)
    for number in range(60):
        build_layer(folder + b"/%d" % number, [File(b"d%d/%d" % (n, number)) for n in range(20)])
    os.mkdir(folder + b"/upper")
    os.mkdir(folder + b"/work")
    lowers = tuple(folder + b"/%d" % number for number in range(60))
    layers = Layers(lowers, folder + b"/upper", folder + b"/work")
    root = union(layers, descriptors=256).root
    for n in range(20):
        assert len(os.listdir(root + b"/d%d" % n)) == 60
        write(root + b"/d%d/new" % n, b"")
        os.rename(root + b"/d%d" % n, root + b"/e%d" % n)


def test_few_descriptors_are_enough_for_many_files(scratch, union):
    """RLIMIT_NOFILE of 256 and 400 files that are read and written."""
    files = [File(b"%d" % number, b"old", 3) for number in range(400)]
    root = union(build_stack(scratch + b"/s", [files]), descriptors=256).root
    for number in range(400):
        assert read(root + b"/%d" % number) == b"old"
    for number in range(400):
        write(root + b"/%d" % number, b"new")
    assert len(os.listdir(root)) == 400


def test_options_with_colons_commas_and_backslashes(scratch, union):
    """The escapes of fuse-overlayfs and buildah: ``\\\\:`` and ``\\\\,``."""
    odd = scratch + b"/o,d:d"
    os.mkdir(odd)
    build_layer(odd + b"/l", [File(b"f", b"found", 5)])
    build_layer(scratch + b"/plain", [File(b"g")])
    escaped = odd.replace(b":", b"\\:").replace(b",", b"\\,") + b"/l"
    root = union(Layers((escaped, scratch + b"/plain"))).root
    assert read(root + b"/f") == b"found"
    assert sorted(os.listdir(root)) == [b"f", b"g"]


def test_relative_layers_count_from_the_callers_directory(scratch, union):
    build_layer(scratch + b"/low", [File(b"f", b"found", 5)])
    os.symlink(b"low", scratch + b"/link")
    root = union(Layers((b"link/../link",)), cwd=scratch).root
    assert read(root + b"/f") == b"found"


def test_numbers_agree_for_files_of_many_layers(scratch, union):
    """d_ino is never zero, is st_ino, and no two living files share one."""
    layers = build_stack(scratch + b"/s", [*rich_stack(), [File(b"x/y"), Link(b"x/z", b"x/y")]])
    root = union(layers).root
    write(root + b"/new", b"")
    tree = trees.snapshot(root)
    assert not tree.faults
    with opened(root, os.O_RDONLY) as fd:
        assert all(entry.ino for entry in getdents(fd))

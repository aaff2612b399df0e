"""What a mount tells of its layers in attributes that are nowhere on disk."""

from __future__ import annotations

import ast
import errno
import json
import os
import subprocess
from collections.abc import Callable

import pytest

from tests.support import kernel
from tests.support.files import write
from tests.support.stacks import Dir, File, Layers, Link, Symlink, Whiteout, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

NAMES = ("layer", "digest", "why", "origin", "path", "allpaths", "stack", "stats")
STACK = [
    [File(b"a", b"old", 100), File(b"d/low"), File(b"many"), Link(b"more", b"many"), File(b"gone")],
    [File(b"a", b"new", 50), Dir(b"d", opaque=True), File(b"d/high"), Symlink(b"l", b"a")],
    [Whiteout(b"gone"), File(b"top")],
]


@pytest.fixture
def layers(scratch) -> Layers:
    return build_stack(scratch + b"/s", STACK)


def tell(path: bytes, what: str) -> bytes | int:
    """The value of an attribute, or the errno instead."""
    try:
        return os.getxattr(path, f"user.unionfs.{what}", follow_symlinks=False)
    except OSError as error:
        return error.errno


def test_each_attribute_of_files_and_directories(union: Callable, layers: Layers) -> None:
    root = union(layers).root
    low, middle, top = layers.lowers[2], layers.lowers[1], layers.lowers[0]
    a = root + b"/a"
    assert [tell(a, name) for name in NAMES[:6]] == [
        b"2", errno.ENODATA, b"from layer 2; hides layer 1", b"layer 2 /a",
        middle + b"/a", middle + b"/a\0" + low + b"/a",
    ]  # fmt: skip
    assert tell(root + b"/d", "why") == b"from layer 2; hides layer 1"
    assert tell(root + b"/d", "layer") == b"2"
    assert tell(root + b"/top", "path") == top + b"/top"
    assert tell(root, "layer") == b"upper"
    assert tell(root, "why") == b"merged from upper, layer 3, layer 2 and layer 1"
    assert tell(root + b"/l", "layer") == errno.ENODATA  # the VFS does not ask about links
    assert tell(a, "nonsense") == errno.ENODATA
    stack = json.loads(tell(root, "stack"))
    assert [os.fsencode(path) for path in stack["lowers"]] == list(layers.lowers)
    assert (stack["upper"], stack["work"]) == (os.fsdecode(layers.upper), os.fsdecode(layers.work))


def test_they_follow_what_is_changed(union: Callable, layers: Layers) -> None:
    mounted = union(layers)
    root = mounted.root
    with open(root + b"/a", "ab") as file:
        file.write(b"x")
    assert (tell(root + b"/a", "layer"), tell(root + b"/a", "origin")) == (b"upper", b"layer 2 /a")
    assert tell(root + b"/a", "path") == layers.upper + b"/a"
    assert tell(root + b"/a", "why") == b"from upper; hides layer 2 and layer 1"
    write(root + b"/made", b"x")
    assert tell(root + b"/made", "origin") == errno.ENODATA
    assert tell(root + b"/made", "why") == b"from upper"
    os.rename(root + b"/a", root + b"/b")
    assert tell(root + b"/b", "origin").startswith(b"a layer's file of another name, inode ")
    with open(root + b"/many", "ab") as file:
        file.write(b"x")
    assert tell(root + b"/more", "path") == layers.upper + b"/many"
    os.rename(root + b"/d", root + b"/moved")
    assert tell(root + b"/moved/high", "path") == layers.lowers[1] + b"/d/high"
    mounted.unmount()
    more = union(layers).root + b"/more"  # it does not know of the other name yet
    assert (tell(more, "layer"), tell(more, "origin")) == (b"upper", errno.ENODATA)
    assert tell(more, "why") == b"from upper: copied up under another of its names"
    assert tell(more, "path").startswith(layers.work + b"/index/")


def test_a_file_without_a_name_has_nothing_to_tell(union: Callable, layers: Layers) -> None:
    root = union(layers).root
    with open(root + b"/a", "rb") as file:
        os.unlink(root + b"/a")
        with pytest.raises(OSError, match="No data available"):
            os.getxattr(file.fileno(), "user.unionfs.why")


def test_they_are_not_listed_and_nobody_sets_them(union: Callable, layers: Layers) -> None:
    os.setxattr(layers.lowers[1] + b"/a", "user.unionfs.layer", b"a lie")
    os.setxattr(layers.lowers[1] + b"/a", "user.unionfs.mine", b"kept")
    root = union(layers).root
    a = root + b"/a"
    assert os.listxattr(a) == ["user.unionfs.mine"]
    assert tell(a, "layer") == b"2"
    for name in NAMES:
        with pytest.raises(PermissionError):
            os.setxattr(a, f"user.unionfs.{name}", b"x")
        with pytest.raises(PermissionError):
            os.removexattr(a, f"user.unionfs.{name}")
    assert not os.path.exists(layers.upper + b"/a")
    subprocess.run(["cp", "-a", a, root + b"/copy"], check=True)
    assert os.listxattr(layers.upper + b"/copy") == ["user.unionfs.mine"]


def test_noxattrinfo_turns_them_off(union: Callable, layers: Layers) -> None:
    root = union(layers, options=(b"noxattrinfo",)).root
    assert [tell(root + b"/a", name) for name in NAMES] == [errno.ENODATA] * len(NAMES)
    os.setxattr(root + b"/a", "user.unionfs.layer", b"mine")
    assert tell(root + b"/a", "layer") == b"mine"
    assert os.listxattr(root + b"/a") == ["user.unionfs.layer"]


def _asked_in(where: Callable[[], None], path: bytes) -> list[bytes | int]:
    """What a process is told that went to *where* first."""
    read, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            where()
            answers = [tell(path, name) for name in ("layer", "path", "allpaths", "stack")]
            os.write(write_end, repr(answers).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read, "rb") as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return ast.literal_eval(said.decode())


def test_paths_on_disk_are_for_the_owner_outside(union: Callable, layers: Layers) -> None:
    root = union(layers).root
    path = root + b"/a"
    assert _asked_in(lambda: None, path)[1] == layers.lowers[1] + b"/a"
    refused = [b"2", errno.EACCES, errno.EACCES, errno.EACCES]
    assert _asked_in(lambda: os.setresuid(1234, 1234, 1234), path) == refused
    assert _asked_in(kernel.own_mount_namespace, path) == refused
    assert _asked_in(lambda: os.chroot(root), b"/a") == refused

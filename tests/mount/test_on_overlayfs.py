"""The upper on the kernel's overlayfs, which makes no whiteout device: a container's own root."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support.files import read, refused, write
from tests.support.fixtures import COMPARED
from tests.support.kernel import RENAME_EXCHANGE, renameat2
from tests.support.mounts import KernelOverlay, Mounted
from tests.support.stacks import IN_NAMESPACE, Dir, File, Layers, Symlink, build_stack

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    *COMPARED,
]

_USERS = b"userxattr," if IN_NAMESPACE else b""
_READ = b"userxattr" if IN_NAMESPACE else b"redirect_dir=on"
_LAYER = [
    File(b"gone", b"1"),
    File(b"moved", b"2"),
    File(b"over", b"3"),
    File(b"empty", size=0),
    File(b"d/a", b"a"),
    File(b"d/b", size=0),
    File(b"d/sub/c", b"c"),
    File(b"tree/x/y", b"y"),
    File(b"tree/z", b"z"),
    File(b"again/old", b"old"),
    Dir(b"bare"),
    Symlink(b"link", b"gone"),
]


@pytest.fixture
def host(scratch: bytes) -> Iterator[bytes]:
    """A directory of the kernel's overlayfs."""
    below = build_stack(scratch + b"/host", [[Dir(b"etc")]])
    with KernelOverlay(below, scratch + b"/root", options=_USERS + b"index=off") as there:
        yield there.root


@pytest.fixture
def layers(host: bytes) -> Layers:
    made = build_stack(host + b"/s", [_LAYER])
    assert made.upper is not None
    with pytest.raises(PermissionError):  # or the tests below show nothing
        os.mknod(made.upper + b"/probe", stat.S_IFCHR, 0)
    return made


def _unlink(root: bytes) -> None:
    for name in (b"/gone", b"/link", b"/d/a", b"/empty"):
        os.unlink(root + name)


def _rmdir(root: bytes) -> None:
    os.rmdir(root + b"/bare")
    os.chmod(root + b"/d", 0o700)
    shutil.rmtree(root + b"/d")


def _again(root: bytes) -> None:
    shutil.rmtree(root + b"/again")
    os.mkdir(root + b"/again")
    write(root + b"/again/new", b"new")
    os.unlink(root + b"/gone")
    write(root + b"/gone", b"back")
    os.unlink(root + b"/moved")
    os.link(root + b"/gone", root + b"/moved")
    os.unlink(root + b"/over")
    os.symlink(b"gone", root + b"/over")


def _rename_file(root: bytes) -> None:
    os.rename(root + b"/moved", root + b"/new")
    os.rename(root + b"/over", root + b"/gone")
    os.unlink(root + b"/d/a")
    os.rename(root + b"/empty", root + b"/d/a")
    os.rename(root + b"/new", root + b"/again/old")


def _rename_directory(root: bytes) -> None:
    os.unlink(root + b"/tree/z")
    os.rename(root + b"/tree", root + b"/elsewhere")
    os.unlink(root + b"/elsewhere/x/y")
    os.unlink(root + b"/gone")
    os.rename(root + b"/d", root + b"/gone")
    os.rename(root + b"/again", root + b"/bare")
    os.mkdir(root + b"/fresh")
    os.rename(root + b"/fresh", root + b"/d")


def _rename_onto_whiteout(root: bytes) -> None:
    """The whiteout of the new name comes to the old place, where nothing is hidden."""
    os.mkdir(root + b"/tree/new")
    os.unlink(root + b"/gone")
    os.rename(root + b"/tree/new", root + b"/gone")
    shutil.rmtree(root + b"/again")
    os.mkdir(root + b"/again")
    os.mkdir(root + b"/again/new")
    os.unlink(root + b"/over")
    os.rename(root + b"/again/new", root + b"/over")


def _exchange(root: bytes) -> None:
    os.unlink(root + b"/d/b")
    renameat2(root + b"/d", root + b"/moved", RENAME_EXCHANGE)
    os.unlink(root + b"/d")
    os.mkdir(root + b"/d")


@pytest.mark.parametrize(
    "change",
    [_unlink, _rmdir, _again, _rename_file, _rename_directory, _rename_onto_whiteout, _exchange],
)
def test_changes_show_and_stay(
    change: Callable[[bytes], None], layers: Layers, host: bytes, union: Callable[..., Mounted]
) -> None:
    plain = host + b"/plain"
    shutil.copytree(layers.lowers[0], plain, symlinks=True)
    change(plain)
    mounted = union(layers)
    change(mounted.root)
    _same(plain, mounted.root)
    mounted.unmount()
    again = union(layers)
    _same(plain, again.root)
    again.unmount()
    _same(plain, union(layers.read_only()).root)


@pytest.mark.parametrize("change", [_unlink, _rmdir, _again, _rename_file, _rename_onto_whiteout])
def test_the_kernel_reads_them_as_lowers(
    change: Callable[[bytes], None],
    layers: Layers,
    union: Callable[..., Mounted],
    scratch: bytes,
) -> None:
    """Copied to a disk with their marks; read as lowers, since it makes no upper of such a root."""
    mounted = union(layers)
    change(mounted.root)
    expected = _names(mounted.root)
    mounted.unmount()
    with KernelOverlay(layers.read_only(), scratch + b"/kernel", options=_READ) as it:
        assert _names(it.root) == expected


@pytest.mark.parametrize("flavour", ["trusted", "user"])
def test_the_form_is_the_kernels(
    flavour: str, layers: Layers, union: Callable[..., Mounted], host: bytes
) -> None:
    options = [b"userxattr"] if flavour == "user" else []
    mounted = union(layers, options=options)
    os.unlink(mounted.root + b"/d/sub/c")
    upper = layers.upper
    assert upper is not None
    for folder in (b"/d/sub", b"/"):  # the kernel looks only if the layer's root says so too
        assert os.getxattr(upper + folder, f"{flavour}.overlay.opaque") == b"x"
    assert os.listxattr(upper + b"/d") == os.listxattr(layers.lowers[0] + b"/d") + _origin(upper)
    assert os.getxattr(upper + b"/d/sub/c", f"{flavour}.overlay.whiteout") == b"y"
    assert os.stat(upper + b"/d/sub/c").st_size == 0
    os.unlink(mounted.root + b"/gone")
    assert os.stat(upper + b"/d/sub/c").st_ino == os.stat(upper + b"/gone").st_ino
    assert os.listdir(mounted.root + b"/d/sub") == []
    mounted.unmount()
    again = union(layers, options=options)
    assert os.listdir(again.root + b"/d/sub") == []
    assert not os.path.lexists(again.root + b"/gone")


def _origin(upper: bytes) -> list[str]:
    return [name for name in os.listxattr(upper + b"/d") if name.endswith("origin")]


def test_what_no_redirect_can_say_and_holds_whiteouts_is_moved_by_copying(
    host: bytes, union: Callable[..., Mounted]
) -> None:
    """In an opaque directory they would be files: EXDEV, which mv(1) answers with a copy."""
    long = b"n" * 200
    folder = long + b"/" + long
    layers = build_stack(host + b"/s", [[File(folder + b"/f"), File(folder + b"/g"), Dir(b"to")]])
    mounted = union(layers)
    root = mounted.root
    os.unlink(root + b"/" + folder + b"/f")
    with refused(errno.EXDEV):
        os.rename(root + b"/" + folder, root + b"/to/moved")
    assert os.listdir(root + b"/" + folder) == [b"g"]
    subprocess.run(["mv", "--", root + b"/" + folder, root + b"/to/moved"], check=True)
    mounted.unmount()
    root = union(layers).root
    assert _names(root) == sorted([b"/to", b"/to/moved", b"/to/moved/g", b"/" + long])


def _names(root: bytes) -> list[bytes]:
    return sorted(
        os.path.join(folder, name)[len(root) :]
        for folder, folders, files in os.walk(root)
        for name in folders + files
    )


def _same(plain: bytes, root: bytes) -> None:
    assert _names(plain) == _names(root)
    for name in _names(plain):
        if os.path.isfile(plain + name):
            assert read(plain + name) == read(root + name), name

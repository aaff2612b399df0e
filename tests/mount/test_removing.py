"""Names of lower files that the extension removes by itself (_removing.c), and when it does not."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable

import pytest

from tests.support.extension import answered, by_python, stats
from tests.support.files import opened, read, refused, write
from tests.support.rawcalls import FS_IMMUTABLE, set_fs_flags
from tests.support.stacks import Dir, File, Layers, Link, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

MANY = 20
SEVERAL = 2  # removals that Python makes before it says what else can go
FILES = [b"f%02d" % number for number in range(MANY)]


@pytest.fixture
def layers(scratch: bytes) -> Layers:
    return build_stack(scratch + b"/s", [[File(b"d/" + name, name, 3) for name in FILES]])


def remove(folder: bytes, names: Iterable[bytes]) -> None:
    for name in names:
        os.unlink(folder + b"/" + name)


def seen(folder: bytes, names: Iterable[bytes]) -> None:
    for name in names:
        os.lstat(folder + b"/" + name)


def is_whiteout(path: bytes) -> bool:
    st = os.lstat(path)
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def begun(folder: bytes) -> None:
    """Let the extension remove what is in *folder* from the third name on."""
    seen(folder, FILES)
    remove(folder, FILES[:SEVERAL])


def by_extension(root: bytes, work: Callable[[], object]) -> int:
    before = answered(root)
    work()
    found = answered(root) - before
    assert stats(root)["unforeseen_errors"] == 0
    return found


def test_python_removes_the_first_few(union, layers):
    mount = union(layers)
    folder = mount.root + b"/d"
    seen(folder, FILES)
    assert by_python(mount.root, lambda: remove(folder, FILES)) == SEVERAL
    assert all(is_whiteout(layers.upper + b"/d/" + name) for name in FILES)
    assert os.listdir(folder) == []
    for name in FILES:
        with refused(errno.ENOENT):
            os.lstat(folder + b"/" + name)
    st, made = os.stat(folder), os.stat(layers.upper + b"/d")
    assert (st.st_ctime_ns, st.st_mtime_ns) == (made.st_ctime_ns, made.st_mtime_ns)
    os.rmdir(folder)
    assert os.listdir(mount.root) == []
    assert is_whiteout(layers.upper + b"/d")
    assert stats(mount.root)["unforeseen_errors"] == 0
    mount.unmount()
    assert os.listdir(union(layers).root) == []


def test_listings_and_names_go_on_right(union, layers):
    """Python hears of what went before it is asked anything."""
    root = union(layers).root
    folder = root + b"/d"
    begun(folder)
    left = FILES[SEVERAL:]
    for number, name in enumerate(left):
        os.unlink(folder + b"/" + name)
        assert sorted(os.listdir(folder)) == left[number + 1 :]
        with refused(errno.ENOENT):
            os.rename(folder + b"/" + name, root + b"/other")
    assert stats(root)["unforeseen_errors"] == 0


def test_a_listing_of_what_is_above_says_when_it_was(union, layers):
    """Python tells it with the directory's attributes, which have changed without a word of its."""
    root = union(layers).root
    folder = root + b"/d"
    begun(folder)
    os.listdir(root)
    before = os.stat(folder)
    os.utime(layers.upper + b"/d", ns=(1, 1))  # else it may be the same moment
    os.unlink(folder + b"/f10")
    os.listdir(root)
    st, made = os.stat(folder), os.stat(layers.upper + b"/d")
    assert st.st_mtime_ns == made.st_mtime_ns != before.st_mtime_ns


def test_a_removed_file_that_is_open_goes_on(union, layers):
    root = union(layers).root
    folder = root + b"/d"
    begun(folder)
    name = folder + b"/f10"
    with opened(name, os.O_RDONLY) as fd:
        inode = os.fstat(fd).st_ino
        assert by_extension(root, lambda: os.unlink(name)) >= 1
        st = os.fstat(fd)
        assert (st.st_nlink, st.st_ino, os.pread(fd, 10, 0)) == (0, inode, b"f10")
        os.fchmod(fd, 0o600)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
        write(name, b"another")
        assert os.pread(fd, 10, 0) == b"f10"
        assert read(name) == b"another"
    os.unlink(name)
    assert is_whiteout(layers.upper + b"/d/f10")
    assert b"f10" not in os.listdir(folder)


CHANGES: dict[str, Callable[[bytes, bytes], object]] = {
    "content": lambda folder, name: write(folder + b"/" + name, b"new"),
    "mode": lambda folder, name: os.chmod(folder + b"/" + name, 0o700),
    "attribute": lambda folder, name: os.setxattr(folder + b"/" + name, "user.a", b"b"),
    "another name": lambda folder, name: os.link(folder + b"/" + name, folder + b"/../linked"),
    "replaced": lambda folder, name: os.rename(folder + b"/f19", folder + b"/" + name),
    "changed places": lambda folder, name: _there_and_back(folder, name),
    "made anew": lambda folder, name: _anew(folder, name),
}


def _there_and_back(folder: bytes, name: bytes) -> None:
    os.rename(folder + b"/" + name, folder + b"/other")
    os.rename(folder + b"/other", folder + b"/" + name)


def _anew(folder: bytes, name: bytes) -> None:
    os.unlink(folder + b"/" + name)
    write(folder + b"/" + name, b"new")


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_meanwhile_is_pythons(union, layers, change):
    """What a whiteout was enough for is another file now: in the upper, to be covered by one."""
    mount = union(layers)
    folder = mount.root + b"/d"
    begun(folder)
    CHANGES[change](folder, b"f10")
    assert not is_whiteout(layers.upper + b"/d/f10")
    assert by_python(mount.root, lambda: remove(folder, [b"f11"])) >= 1
    assert by_python(mount.root, lambda: remove(folder, [b"f10"])) >= 1
    assert is_whiteout(layers.upper + b"/d/f10")
    assert b"f10" not in os.listdir(folder)
    remove(folder, [name for name in os.listdir(folder) if name in FILES])
    assert stats(mount.root)["unforeseen_errors"] == 0
    if change == "another name":
        assert os.stat(mount.root + b"/linked").st_nlink == 1
        assert read(mount.root + b"/linked") == b"f10"
    mount.unmount()
    assert os.listdir(union(layers).root + b"/d") == []


def test_protected_files_stay(union, layers):
    """One was protected since it was said that it can go, one before, and then the directory."""
    root = union(layers).root
    folder = root + b"/d"
    seen(folder, FILES)
    with opened(folder + b"/f19", os.O_RDONLY) as first, opened(folder, os.O_RDONLY) as around:
        set_fs_flags(first, FS_IMMUTABLE)
        remove(folder, FILES[: SEVERAL + 1])
        with refused(errno.EPERM):
            os.unlink(folder + b"/f19")
        set_fs_flags(first, 0, FS_IMMUTABLE)
        remove(folder, FILES[3:6])
        with opened(folder + b"/f10", os.O_RDONLY) as second:
            set_fs_flags(second, FS_IMMUTABLE)
            with refused(errno.EPERM):
                os.unlink(folder + b"/f10")
            set_fs_flags(second, 0, FS_IMMUTABLE)
        remove(folder, FILES[6:9])
        set_fs_flags(around, FS_IMMUTABLE)
        with refused(errno.EPERM):
            os.unlink(folder + b"/f11")
        set_fs_flags(around, 0, FS_IMMUTABLE)
    assert read(folder + b"/f11") == b"f11"
    remove(folder, FILES[9:])
    assert os.listdir(folder) == []


def test_links_go_on_counting(union, scratch):
    names = [File(b"d/" + name) for name in FILES]
    layer = [*names, File(b"d/one"), Link(b"d/two", b"d/one"), Link(b"far", b"d/one"), Dir(b"e")]
    layers = build_stack(scratch + b"/s", [layer])
    root = union(layers).root
    folder = root + b"/d"
    seen(folder, [*FILES, b"one", b"two"])
    remove(folder, FILES[:10])
    os.unlink(folder + b"/one")
    assert os.stat(folder + b"/two").st_nlink == 2
    remove(folder, FILES[10:])
    os.unlink(folder + b"/two")
    assert os.stat(root + b"/far").st_nlink == 1
    assert os.listdir(folder) == []


def test_directories_side_by_side_and_in_one_another(union, scratch):
    """As rm -r goes through them: some files, a directory with files, more files."""
    ways = (b"/a", b"/a/f", b"/a/f/f", b"/b")
    layer = [File(way[1:] + b"/" + name) for way in ways for name in FILES]
    layers = build_stack(scratch + b"/s", [layer])
    root = union(layers).root
    for way in ways:
        seen(root + way, FILES)

    def work() -> None:
        for at in range(MANY - 1):
            for way in ways:
                os.unlink(root + way + b"/" + FILES[at])

    assert by_python(root, work) == SEVERAL * len(ways)
    for way in (b"/a/f/f", b"/a/f", b"/a", b"/b"):
        os.unlink(root + way + b"/" + FILES[-1])
        os.rmdir(root + way)  # who is asked has to have heard of that
    assert os.listdir(root) == []
    assert stats(root)["unforeseen_errors"] == 0


def test_what_was_never_looked_at_is_pythons(union, layers):
    """Whether such a file has other names is not known."""
    root = union(layers).root
    folder = root + b"/d"
    seen(folder, FILES[:10])
    remove(folder, FILES[:SEVERAL])
    assert by_python(root, lambda: remove(folder, FILES[SEVERAL:10])) == 0
    left = FILES[10:]
    assert by_python(root, lambda: remove(folder, left)) >= len(left)
    assert all(is_whiteout(layers.upper + b"/d/" + name) for name in FILES)


def test_python_says_what_is_wrong(union, layers):
    """The upper's directory is closed to changes from outside, and opened again."""
    root = union(layers).root
    folder = root + b"/d"
    begun(folder)
    remove(folder, FILES[SEVERAL:5])
    with opened(layers.upper + b"/d", os.O_RDONLY) as outside:
        set_fs_flags(outside, FS_IMMUTABLE)
        for _ in range(2):
            with refused(errno.EPERM):
                os.unlink(folder + b"/f10")
        set_fs_flags(outside, 0, FS_IMMUTABLE)
    assert read(folder + b"/f10") == b"f10"
    remove(folder, FILES[5:])
    assert os.listdir(folder) == []
    assert stats(root)["unforeseen_errors"] == 0


def test_what_went_is_let_go(union, scratch):
    """Nothing of it is known afterwards, nor is more told at once than there is room for."""
    names = [b"%0250d" % number for number in range(300)]
    layers = build_stack(scratch + b"/s", [[File(b"d/" + name) for name in names]])
    root = union(layers).root
    seen(root + b"/d", names)
    nodes = stats(root)["nodes"]
    assert nodes > len(names)
    assert by_python(root, lambda: remove(root + b"/d", names)) < len(names) / 4
    assert os.listdir(root + b"/d") == []
    os.rmdir(root + b"/d")
    assert stats(root)["nodes"] < nodes - len(names) * 3 / 4
    assert stats(root)["unforeseen_errors"] == 0

"""The verbs on plain directories: what they leave in the upper, and what they say has changed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.kernel import getdents
from tests.support.worlds import World, without_threads
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.whiteout import is_whiteout
from unionfs.upper import attributes
from unionfs.upper.changes import changes
from unionfs.upper.work import WorkDir

pytestmark = pytest.mark.needs_root

Build = Callable[..., World]


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    (tmp_path / "lower").mkdir()
    return tmp_path / "lower"


@pytest.fixture
def build(tmp_path: Path, lower: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    with ExitStack() as stack:
        stack.enter_context(without_threads(monkeypatch))
        old = os.umask(0)
        stack.callback(os.umask, old)

        def build(**how: object) -> World:
            lowers = (os.fsencode(lower),)
            return stack.enter_context(
                World(os.fsencode(tmp_path / "world"), lowers, **how)  # type: ignore[arg-type]
            )

        yield build


def _changes(world: World, flavour: Flavour = Flavour.TRUSTED) -> list[str]:
    found = changes(world.lowers, world.upperdir, world.workdir, flavour)
    return [f"{change.kind} {os.fsdecode(change.path)}" for change in found]


def _on_disk(world: World, path: str) -> os.stat_result:
    return os.lstat(os.fsdecode(world.upperdir) + "/" + path)


def test_changes_are_those_of_docker_diff(lower: Path, build: Build) -> None:
    (lower / "dir" / "sub").mkdir(parents=True)
    (lower / "dir" / "sub" / "file").touch()
    (lower / "gone").mkdir()
    (lower / "gone" / "inside").touch()
    (lower / "kind").touch()
    (lower / "untouched").touch()
    world = build()
    assert _changes(world) == []
    world.write(b"dir/sub/file", b"x")
    world.mkdir(b"dir/new")
    world.create(b"dir/new/file")
    world.unlink(b"gone/inside")
    world.rmdir(b"gone")
    world.unlink(b"kind")
    world.mkdir(b"kind")
    world.create(b"kind/inside")
    world.create(b"short-lived")
    world.unlink(b"short-lived")
    assert _changes(world) == [
        "C /dir",
        "A /dir/new",
        "A /dir/new/file",
        "C /dir/sub",
        "C /dir/sub/file",
        "D /gone",
        "C /kind",
        "A /kind/inside",
    ]


def test_changes_of_a_file_with_several_names(lower: Path, build: Build) -> None:
    for name in ("a", "b/c", "d"):
        (lower / name).mkdir(parents=True)
    (lower / "a/one").write_bytes(b"linked")
    for name in ("a/two", "b/c/three", "b/c/gone"):
        os.link(lower / "a/one", lower / name)
    (lower / "b/other").write_bytes(b"other")
    os.link(lower / "b/other", lower / "d/other")
    world = build()
    world.write(b"a/one", b"changed")
    world.unlink(b"b/c/gone")
    inside = ["C /b", "C /b/c", "D /b/c/gone", "C /b/c/three"]
    assert _changes(world) == ["C /a", "C /a/one", "C /a/two", *inside]
    world.rename(b"a/two", b"moved")
    world.unlink(b"b/c/three")
    inside[-1] = "D /b/c/three"
    assert _changes(world) == ["C /a", "C /a/one", "D /a/two", *inside, "A /moved"]


def test_changes_of_names_in_directories_that_did_not_change(lower: Path, build: Build) -> None:
    for name in ("a", "b/c"):
        (lower / name).mkdir(parents=True)
    (lower / "a/one").write_bytes(b"linked")
    os.link(lower / "a/one", lower / "b/c/two")
    world = build()
    world.setattr(b"a/one", mode=0o600)
    assert _changes(world) == ["C /a", "C /a/one", "C /b/c/two"]


def test_changes_of_moved_and_remade_directories(lower: Path, build: Build) -> None:
    for path in ("moved/sub", "remade"):
        (lower / path).mkdir(parents=True)
        (lower / path / "file").touch()
    world = build()
    world.rename(b"moved", b"there")
    world.unlink(b"remade/file")
    world.rmdir(b"remade")
    world.mkdir(b"remade")
    assert _changes(world) == [
        "D /moved",
        "C /remade",
        "D /remade/file",
        "A /there",
        "A /there/sub",
        "A /there/sub/file",
    ]


def test_a_deleted_directory_made_again_stays_empty(lower: Path, build: Build) -> None:
    (lower / "a" / "b").mkdir(parents=True)
    (lower / "a" / "b" / "old").touch()
    world = build()
    world.unlink(b"a/b/old")
    world.rmdir(b"a/b")
    world.rmdir(b"a")
    world.mkdir(b"a")
    world.mkdir(b"a/b")
    world.rename(b"a/b", b"b")
    for each in (world, None):
        seen = (each or build()).dump()
        assert sorted(seen) == [b"", b"a", b"b"]
        world.close()
    assert os.getxattr(world.upperdir + b"/a", "trusted.overlay.opaque") == b"y"


def test_user_attributes_do_for_everything(lower: Path, build: Build) -> None:
    (lower / "dir" / "sub").mkdir(parents=True)
    (lower / "dir" / "file").write_bytes(b"x")
    (lower / "link").symlink_to("x")
    world = build(flavour=Flavour.USER)
    world.rename(b"dir", b"moved")
    world.unlink(b"moved/file")
    world.setattr(b"link", uid=5)
    world.mkdir(b"dir")
    numbers = world.numbers()
    world.close()
    again = build(flavour=Flavour.USER)
    assert sorted(again.dump()) == [b"", b"dir", b"link", b"moved", b"moved/sub"]
    assert again.numbers().items() <= numbers.items()
    for folder, names, files in os.walk(world.upperdir):
        for name in (*names, *files):
            listed = os.listxattr(os.path.join(folder, name), follow_symlinks=False)
            assert not [one for one in listed if one.startswith("trusted.")], name


@pytest.mark.parametrize("kind", ["symlink", "fifo"])
def test_names_of_what_takes_no_user_attributes_stay_one_file(
    lower: Path, build: Build, kind: str
) -> None:
    """Its marks are in the work directory for as long as it has a name, and no longer."""
    if kind == "symlink":
        (lower / "one").symlink_to("x")
    else:
        os.mkfifo(lower / "one", 0o600)
    os.link(lower / "one", lower / "two", follow_symlinks=False)
    world = build(flavour=Flavour.USER)
    numbers = set(world.numbers().values())
    world.setattr(b"one", uid=5)
    for change in (
        lambda _: None,
        lambda seen: seen.rename(b"two", b"three"),
        lambda seen: seen.unlink(b"one"),
    ):
        change(world)
        shown = world.dump()
        world.close()
        world = build(flavour=Flavour.USER)
        assert world.dump() == shown
        assert set(world.numbers().values()) == numbers
        for path in filter(None, shown):
            st = world.getattr(path)
            assert (st.st_uid, st.st_nlink) == (5, len(shown) - 1)
    assert len(os.listdir(world.workdir + b"/marks")) == 1
    world.unlink(b"three")
    assert os.listdir(world.workdir + b"/marks") == []


def test_a_stack_of_moves_survives_remounts(lower: Path, build: Build) -> None:
    (lower / "a" / "b" / "c").mkdir(parents=True)
    (lower / "a" / "b" / "c" / "file").write_bytes(b"content")
    moves = [(b"a/b", b"b"), (b"b/c", b"a/c"), (b"a", b"b/a"), (b"b/a/c", b"c"), (b"b", b"a")]
    world = build()
    for old, new in moves:
        world.rename(old, new)
        before = world.dump()
        world.close()
        world = build()
        assert world.dump() == before
    assert world.read(b"c/file") == b"content"
    assert sorted(world.dump()) == [b"", b"a", b"a/a", b"c", b"c/file"]


def test_a_deep_tree_moves_with_few_descriptors(lower: Path, build: Build) -> None:
    deep = "/".join(["d" * 100] * 60)  # longer than PATH_MAX, and than a redirect may be
    here = os.open(lower, os.O_RDONLY)
    for name in deep.split("/"):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
    world = build(descriptors=64)
    opened = len(os.listdir("/proc/self/fd"))
    path = os.fsencode(deep)
    world.write(path + b"/file", b"deep")
    world.rename(path, path.rpartition(b"/")[0] + b"/moved")
    moved = path.rpartition(b"/")[0] + b"/moved"
    assert world.read(moved + b"/file") == b"deep"
    assert len(os.listdir("/proc/self/fd")) <= opened + 66
    world.close()
    again = build(descriptors=64)
    assert again.read(moved + b"/file") == b"deep"
    again.unlink(moved + b"/file")
    while moved:
        again.rmdir(moved)
        moved = moved.rpartition(b"/")[0]
    assert again.names(b"") == []
    assert is_whiteout(_on_disk(again, "d" * 100))


def test_a_whiteout_is_only_left_where_something_would_show(lower: Path, build: Build) -> None:
    (lower / "lower").touch()
    world = build()
    world.create(b"own")
    for name in (b"own", b"lower"):
        world.rename(name, b"x" + name)
        world.unlink(b"x" + name)
    assert os.listdir(world.upperdir) == [b"lower"]
    assert is_whiteout(_on_disk(world, "lower"))


def test_a_copy_up_leaves_the_directorys_times(lower: Path, build: Build) -> None:
    (lower / "dir").mkdir()
    (lower / "dir" / "file").touch()
    os.utime(lower / "dir", ns=(10**18, 10**18))
    world = build()
    world.setattr(b"dir/file", mode=0o600)
    assert world.getattr(b"dir").st_mtime_ns == 10**18
    world.create(b"dir/new")
    assert world.getattr(b"dir").st_mtime_ns != 10**18


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
def test_special_files_are_copied_up_as_they_are(lower: Path, build: Build, kind: int) -> None:
    device = os.makedev(7, 7) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    os.mknod(lower / "special", kind | 0o640, device)
    world = build()
    world.setattr(b"special", mode=0o600)
    st = _on_disk(world, "special")
    assert (st.st_mode, st.st_rdev) == (kind | 0o600, device)


def test_a_truncation_that_fails_leaves_content_and_mode(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set-id bits go first, as nothing may fail once the content is gone, and come back."""
    world = build()
    world.create(b"file", b"content", 0o4755)
    assert world.upper is not None

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with open(world.upperdir + b"/file", "rb+") as file:
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", fails)
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                attributes.truncate(world.upper, file.fileno(), 3, kill=lambda group: True)
        assert _on_disk(world, "file").st_mode & 0o7777 == 0o4755
        with monkeypatch.context() as patch:
            patch.setattr(os, "fchmod", fails)
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                attributes.truncate(world.upper, file.fileno(), 3, kill=lambda group: True)
        assert _on_disk(world, "file").st_size == 7
        attributes.truncate(world.upper, file.fileno(), 3, kill=lambda group: True)
    assert _on_disk(world, "file").st_size == 3
    assert _on_disk(world, "file").st_mode & 0o7777 == 0o755


def test_a_removal_that_is_done_is_not_told_as_failed(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look for what may be said of the file beside it comes after, and may fail."""
    world = build(flavour=Flavour.USER)
    world.create(b"new")

    def fails(_: WorkDir) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(WorkDir, "has_marks", fails)
    world.unlink(b"new")
    assert os.listdir(world.upperdir) == []


def test_an_emptied_directory_is_replaced_wherever_its_descriptor_stands(
    lower: Path, build: Build
) -> None:
    """btrfs lists only what was there when it was opened or rewound: no whiteout made since."""
    (lower / "emptied").mkdir()
    (lower / "emptied" / "file").touch()
    world = build()
    world.unlink(b"emptied/file")
    world.mkdir(b"new")
    world.create(b"new/inside")
    part = world.node(b"emptied").upper_part()
    assert getdents(part.fd())[2:]  # it stands behind the last name now
    world.rename(b"new", b"emptied")
    assert world.names(b"") == [b"emptied"]
    assert world.names(b"emptied") == [b"inside"]

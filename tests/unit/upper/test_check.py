"""Faults of an upper and its work directory, each made by hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.layers import FLAVOUR
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.origin import Origin, filesystem_uuid
from unionfs.ondisk.whiteout import make_whiteout
from unionfs.syscalls.handle import handle_of
from unionfs.upper.check import Flaw, check_upper

OPEN = os.O_RDONLY | os.O_DIRECTORY


class Stack:
    """Two lowers, an upper and a work directory; ``other`` is in the lower one only."""

    def __init__(self, home: Path) -> None:
        self.lowers = [home / "lower1", home / "lower2"]
        self.upper, self.work = home / "upper", home / "work"
        for path in (*self.lowers, self.upper, self.work / "work", self.work / "index"):
            path.mkdir(parents=True)
        (self.lowers[1] / "other/deep").mkdir(parents=True)
        (self.lowers[0] / "dir").mkdir()
        (self.lowers[0] / "dir/file").write_text("content")

    def mark(self, path: str, name: bytes, value: bytes) -> None:
        os.setxattr(self.upper / path, name, value, follow_symlinks=False)

    def origin(self, path: str) -> Origin:
        """What the mark of a copy of the lower file *path* says."""
        fd = os.open(self.lowers[0], OPEN)
        try:
            uuid = filesystem_uuid(fd)
            assert uuid is not None
            return Origin(uuid, handle_of(fd, path.encode()))
        finally:
            os.close(fd)

    def copy_up(self, path: str, *, impure: bool = True) -> None:
        """What a copy-up leaves, but for the content."""
        (self.upper / path).parent.mkdir(parents=True, exist_ok=True)
        (self.upper / path).touch()
        self.mark(path, FLAVOUR.origin, self.origin(path).encode())
        if impure:
            self.mark(str(Path(path).parent), FLAVOUR.impure, b"y")

    def renamed(self, target: str, redirect: bytes) -> None:
        (self.upper / target).mkdir()
        self.mark(target, FLAVOUR.redirect, redirect)

    def hide(self, name: bytes) -> None:
        fd = os.open(self.upper, OPEN)
        make_whiteout(fd, name)
        os.close(fd)

    def check(self, flavour: Flavour = FLAVOUR, *, repair: bool = False) -> list[Flaw]:
        lowers = [os.fsencode(path) for path in self.lowers]
        found = []
        for flaw in check_upper(lowers, os.fsencode(self.upper), os.fsencode(self.work), flavour):
            found.append(flaw)
            if repair and flaw.repair:
                flaw.repair()
        return found


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def sound(stack: Stack) -> None:
    """All that an upper may have."""
    stack.copy_up("dir/file")
    stack.renamed("moved", b"/other/deep")
    stack.hide(b"other")
    (stack.upper / "new").mkdir()
    stack.mark("new", FLAVOUR.opaque, b"y")
    stack.mark("new", FLAVOUR.prefix + b"overlay.opaque", b"y")  # a user's, escaped
    os.link(stack.upper / "dir/file", stack.work / "index" / entry(stack, "dir/file"))
    (stack.upper / "link").symlink_to("nowhere")


def entry(stack: Stack, path: str) -> str:
    return stack.origin(path).index_name().decode()


def test_a_sound_upper_has_no_flaws(stack: Stack) -> None:
    sound(stack)
    assert stack.check() == []


def dangling(stack: Stack) -> None:
    stack.renamed("moved", b"/other/nothing")


def sibling(stack: Stack) -> None:
    stack.renamed("moved", b"nothing")


def no_path(stack: Stack) -> None:
    stack.renamed("moved", b"a//b")


def twice(stack: Stack) -> None:
    stack.hide(b"other")
    stack.renamed("one", b"/other")
    stack.renamed("two", b"/other")


def at_both_places(stack: Stack) -> None:
    stack.renamed("moved", b"/other")


def stale_origin(stack: Stack) -> None:
    stack.copy_up("dir/file")
    (stack.lowers[0] / "dir/file").unlink()


def no_origin(stack: Stack) -> None:
    stack.copy_up("dir/file")
    stack.mark("dir/file", FLAVOUR.origin, b"nonsense")


def not_impure(stack: Stack) -> None:
    """No fault: the kernel with nfs_export leaves that of a copy that it has no index entry for."""
    stack.copy_up("dir/file", impure=False)


def unknown_mark(stack: Stack) -> None:
    stack.mark("", FLAVOUR.prefix + b"verity", b"y")


def unknown_mark_of_a_file(stack: Stack) -> None:
    (stack.upper / "file").touch()
    stack.mark("file", FLAVOUR.prefix + b"verity", b"y")


def no_data(stack: Stack) -> None:
    (stack.upper / "file").touch()
    stack.mark("file", FLAVOUR.metacopy, b"")


def aufs_name(stack: Stack) -> None:
    (stack.upper / ".wh.x").touch()


def odd_entry(stack: Stack) -> None:
    (stack.work / "index/name").touch()


def stale_entry(stack: Stack) -> None:
    (stack.work / "index" / entry(stack, "dir/file")).touch()
    (stack.lowers[0] / "dir/file").unlink()


def half_made(stack: Stack) -> None:
    (stack.work / "work/#1").mkdir()
    (stack.work / "work/#1/file").touch()


def volatile(stack: Stack) -> None:
    (stack.work / "work/incompat/volatile").mkdir(parents=True)


@pytest.mark.parametrize(
    "damage, path, says, repaired",
    [
        (dangling, b"/moved", "leads nowhere: /other/nothing", True),
        (sibling, b"/moved", "leads nowhere: nothing", True),
        (no_path, b"/moved", "not a redirect", False),
        (twice, b"/one", "the same lower directory as /two", False),
        (at_both_places, b"/moved", "also shown where it was", False),
        (stale_origin, b"/dir/file", "copied from is gone", True),
        (no_origin, b"/dir/file", "origin mark is not one", True),
        (not_impure, b"/dir", "not marked", True),
        (unknown_mark, b"/", "mark trusted.overlay.verity is not known", False),
        (unknown_mark_of_a_file, b"/file", "nobody knows: trusted.overlay.verity", False),
        (no_data, b"/file", "metacopy", False),
        (aufs_name, b"/.wh.x", "whiteout", False),
        (odd_entry, b"index/name", "no entry", True),
        (stale_entry, None, "copy of a file that is gone", True),
        (half_made, b"work/#1", "killed mount", True),
        (volatile, b"work/incompat", "volatile", False),
    ],
)
@pytest.mark.needs_root
def test_a_flaw_is_named_and_repaired_where_that_is_possible(
    stack: Stack, damage: Callable[[Stack], None], path: bytes | None, says: str, repaired: bool
) -> None:
    damage(stack)
    (flaw,) = stack.check(repair=True)
    assert says in flaw.says
    assert path in (None, flaw.path)
    assert flaw.harmless == (damage in (half_made, not_impure))
    assert stack.check() == ([] if repaired else [flaw])


def test_a_dangling_redirect_becomes_opaque(stack: Stack) -> None:
    """As the directory showed: what it held itself, and nothing of a lower one of its name."""
    (stack.lowers[0] / "moved").mkdir()
    dangling(stack)
    stack.check(repair=True)
    assert os.getxattr(stack.upper / "moved", FLAVOUR.opaque) == b"y"
    assert FLAVOUR.redirect.decode() not in os.listxattr(stack.upper / "moved")


def test_what_the_kernel_refuses_without_privilege_is_told(stack: Stack) -> None:
    (stack.upper / "moved").mkdir()
    os.setxattr(stack.upper / "moved", Flavour.USER.redirect, b"/other")
    stack.hide(b"other")
    (flaw,) = stack.check(Flavour.USER)
    assert flaw.harmless
    assert "kernel's overlayfs refuses" in flaw.says
    assert flaw.path == b"/moved"

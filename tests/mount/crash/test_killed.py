"""The daemon killed with SIGKILL at each system call that it makes for a change.

A client waits for the answer meanwhile. Whatever the call: the next mount, ours or the kernel's
overlayfs on the same directories, shows the state before the change or the state after it, inode
numbers included, and no name besides. Where that takes two writes it may be a state between them
that is known, and in which nobody may do more than in the others.

Between two calls that change anything the disk is the same, so that ``make test`` kills at those
only; the full run kills at every call that reaches a filesystem, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.support import between, points
from tests.support.between import Between
from tests.support.crash_cases import CASES, TWO_WRITES, Case
from tests.support.crashes import (
    GONE,
    USERS,
    Stage,
    dead,
    differing,
    look,
    without_directory_times,
)
from tests.support.examples import FULL
from tests.support.fixtures import COMPARED
from tests.support.points import Trap
from tests.support.trees import Tree

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    *COMPARED,
]

COUNTED = points.touches_or_answers if FULL else points.changes
WHOLE = (  # at every point in `make test` too
    "write to a lower file",
    "chmod a hard link",
    "unlink a lower file",
    "rmdir a merged directory",
    "mkdir over a removed directory",
    "rename a lower file",
    "rename a merged directory",
    "rename a directory over one full of whiteouts",
)
SAMPLED = 12  # of so many points of the others one is taken
PASSES = 3  # until a state was seen: what the kernel asks besides gives calls other numbers
SLACK = 3  # calls by which two runs of a change may differ


def test_the_points_are_the_calls_that_matter(stage: Stage):
    """A copy-up's own calls are among those counted, in their order, whoever makes them."""
    seen: list[str] = []
    stage.fresh()
    with stage.mount() as mounted:
        look(mounted.root)
        with Trap(mounted.pid, None, lambda call: seen.append(call.name)):
            CASES["write to a lower file"].when(mounted.root)
    made = [name for name in seen if name != "writev"]
    settled = "fdatasync" if "fdatasync" in made else "sync_file_range"  # syscalls.settle
    assert made[0] == "openat" and "renameat" in made and settled in made, seen
    assert made[-1] == "pwrite64" and made.index(settled) < made.index("renameat"), seen
    assert seen[-1] == "writev", "the answer to the caller"


def test_killed_at_every_call(stage: Stage, case_name: str):
    kill_at_each(stage, case_name, 1 if FULL or case_name in WHOLE else SAMPLED)


@pytest.mark.parametrize("form", USERS)
def test_killed_with_a_users_marks(stage: Stage, case_name: str, form: str):
    """The kernel does not have all of these marks."""
    stage.as_a_users(form)
    kill_at_each(stage, case_name, 1 if FULL else 2 * SAMPLED)


NESTED = (  # and not where a rename replaces what shows: it takes two steps there
    "link over a whiteout",
    "create over a whiteout",
    "mkdir over a removed directory",
    "unlink a lower file",
    "unlink a copy",
    "rmdir a merged directory",
    "rename a lower file",
    "rename over a whiteout",
    "rename a merged directory",
    "rename a directory over a whiteout",
)


@pytest.mark.needs_kernel_overlay
@pytest.mark.parametrize("name", NESTED)
def test_killed_where_whiteouts_are_files(nested: Stage, name: str):
    kill_at_each(nested, name, 1 if FULL else SAMPLED // 4)


@pytest.mark.parametrize("form", ["root", *USERS])
@pytest.mark.parametrize("name", TWO_WRITES)
def test_killed_between_two_writes(stage: Stage, name: str, form: str):
    if form in USERS:
        stage.as_a_users(form)
    kill_between(stage, name, aside=form == "kept owners")


def kill_between(stage: Stage, name: str, *, aside: bool) -> None:
    """Kill at the calls of one of ``TWO_WRITES``; *aside*: owners are kept so.

    What a filesystem changes at once may be half done, in the ways that ``between`` says and no
    other. All of those come up: else too much is allowed.
    """
    halves = between.allowed(name, aside=aside)
    case = TWO_WRITES[name]
    born, after, count = _plain(stage, case)
    every = 1 if FULL or halves else min(SAMPLED, count)
    missed = {half.name for half in halves}
    for _ in range(PASSES):
        for number in range(list(TWO_WRITES).index(name) % every, count, every):
            missed -= _killed(stage, case, number, born, after, halves)
        if not missed:
            break
    assert not missed, "never seen"


def kill_at_each(stage: Stage, case_name: str, every: int) -> None:
    """Kill at the calls of a case, or at one of *every* so many."""
    case = CASES[case_name]
    born, after, count = _plain(stage, case)
    assert count >= 2, "a change makes a call, and gives an answer"
    for number in range(list(CASES).index(case_name) % every, count, every):
        _killed(stage, case, number, born, after)


def _plain(stage: Stage, case: Case) -> tuple[set[int], Tree, int]:
    """Return the numbers of the layers' files (not FUSE's root), the tree after, the calls made."""
    stage.fresh()
    with stage.mount() as mounted:
        born = {node.ino for path, node in look(mounted.root).nodes.items() if path != b"."}
        for step in case.given:
            step(mounted.root)
        look(mounted.root)
        with Trap(mounted.pid, None, lambda call: None, counts=COUNTED) as trap:
            case.when(mounted.root)
        return born, look(mounted.root), trap.count


def _killed(
    stage: Stage,
    case: Case,
    number: int,
    born: set[int],
    after: Tree,
    halves: Sequence[Between] = (),
) -> set[str]:
    """Kill at the call *number*, and look; return the names of those of *halves* that showed."""
    stage.fresh()
    mounted = stage.mount()
    for step in case.given:
        step(mounted.root)
    before = look(mounted.root)
    told = None
    with Trap(mounted.pid, number, points.kill, counts=COUNTED) as trap:
        try:
            case.when(mounted.root)
        except OSError as error:
            told = error.errno
    if trap.sprung is None:  # what the kernel asks besides is not always the same
        mounted.unmount()
        assert told is None and trap.count >= number - SLACK, f"only {trap.count} calls this time"
        return set()
    dead(mounted)
    assert told in (*GONE, None), told
    # A directory's times are set back after a copy into it: the copy itself shows nowhere.
    blur = without_directory_times if trap.sprung.name == "utimensat" else _as_is
    met = set()
    for whose, seen, kinds in _shown(stage):
        old = differing(blur(seen), blur(before), born, kinds=kinds)
        new = differing(blur(seen), blur(after), born, kinds=kinds)
        assert told is not None or not new, f"{trap}: {whose}: acknowledged and lost: {new}"
        if old and new:
            half = _half(seen, before, after, halves, born, kinds)
            assert half, f"{trap}: {whose}: not before: {old}; not after: {new}"
            met.add(half)
    if met:
        assert not differing(_made_again(stage, case), after, born), "made again"
    return met


def _made_again(stage: Stage, case: Case) -> Tree:
    """Return what our next mount shows when it has made the change once more."""
    with stage.mount() as mounted:
        case.when(mounted.root)
        return look(mounted.root)


def _shown(stage: Stage) -> Iterator[tuple[str, Tree, tuple[str, ...]]]:
    """Yield who shows what, and the kinds of files whose numbers may be others there."""
    copy = stage.copy()
    yield "ours", stage.ours(), ()
    for seen in stage.kernels(copy):
        yield "the kernel's", seen, ("dir",)


def _half(
    seen: Tree,
    before: Tree,
    after: Tree,
    halves: Sequence[Between],
    born: set[int],
    kinds: tuple[str, ...],
) -> str | None:
    """Return which of *halves* is *seen*, None if none is; nobody may more in it than at an end."""
    for half in halves:
        if not differing(seen, half.of(before, after), born, kinds=kinds):
            more = list(between.widened(seen, before, after))
            assert not more, f"{half.name}: {more}"
            return half.name
    return None


def _as_is(tree: Tree) -> Tree:
    return tree

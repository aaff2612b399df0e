"""ENOSPC, EIO and EDQUOT at each system call that the daemon makes for a change.

Either the caller is told that very error, and nothing has changed: in the mount, for the kernel's
overlayfs on the same directories, and in what the upper holds but shows to nobody. Or the daemon
knows another way, and the change is done. The same change then works in the same mount.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator

import pytest

from tests.support import points
from tests.support.crash_cases import CARRIED, CASES, TWO_WRITES, WITH_EXTENSION, Case
from tests.support.crashes import USERS, Stage, differing, look, without_directory_times
from tests.support.examples import FULL
from tests.support.fixtures import COMPARED
from tests.support.points import Trap
from tests.support.ptrace import Call
from tests.support.trees import Tree

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    *COMPARED,
]

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
COPYING = (  # with a user's marks in `make test`, too
    "write to a lower file",
    "chown a symbolic link",
    "create",
    "rename a merged directory",
)
SAMPLED = 1 if FULL else 12  # of so many points one is tried
SLACK = 3  # calls by which two runs of a change may differ
# A change of these alone is done when it is done: no look at it afterwards makes it fail.
SETTING = ("truncate", "chmod ", "chown ", "give ", "take ")
CLEANING = ("unlinkat", "rmdir", "openat", "newfstatat", "getdents64")  # what remove_tree() does


def test_failing_at_every_call(stage: Stage, case_name: str):
    stage.container = bool(list(CASES).index(case_name) % 2)
    _fail_at_each(stage, case_name)


@pytest.mark.parametrize("form", USERS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.needs_extension if name in WITH_EXTENSION else ())
        for name in (CASES if FULL else COPYING)
    ],
)
def test_failing_with_a_users_marks(stage: Stage, name: str, form: str):
    """Where owners are kept aside, a copy-up has one more attribute to write."""
    stage.as_a_users(form)
    _fail_at_each(stage, name)


@pytest.mark.parametrize("form", ["kept owners", *(["user attributes"] if FULL else [])])
@pytest.mark.parametrize("name", TWO_WRITES)
def test_failing_at_the_second_write(stage: Stage, name: str, form: str):
    """What a filesystem changes at once is put back where only half of it can be written."""
    stage.as_a_users(form)
    counts = points.touches if FULL else points.changes_disk
    trial = Trial(stage, TWO_WRITES[name], sets_only=name.startswith(SETTING), counts=counts)
    fail_at(trial, range(trial.count))


@pytest.mark.needs_extension
@pytest.mark.parametrize("form", ["root", *(USERS if FULL else [])])
@pytest.mark.parametrize("name", CARRIED)
def test_failing_what_the_extension_brings(stage: Stage, name: str, form: str):
    if form in USERS:
        stage.as_a_users(form)
    counts = points.touches if FULL or name.startswith("find") else points.changes_disk
    trial = Trial(stage, CARRIED[name], sets_only=False, counts=counts)
    fail_at(trial, range(trial.count))


def _fail_at_each(stage: Stage, case_name: str) -> None:
    """Fail at the calls of a case, or at those that are sampled."""
    trial = Trial(stage, CASES[case_name], sets_only=case_name.startswith(SETTING))
    first = list(CASES).index(case_name) % SAMPLED
    fail_at(trial, range(first, trial.count, SAMPLED))


def fail_at(trial: Trial, points_tried: Iterable[int]) -> None:
    wrong: list[str] = []
    for number in points_tried:
        every = FULL or trial.count < len(ERRORS)  # of few calls each meets all
        for error in ERRORS if every else (ERRORS[number % len(ERRORS)],):
            wrong += trial.at(number, error)
    assert not wrong, "\n".join(wrong)


class Trial:
    """One case, tried again and again with another call failing.

    ``count`` is how many it makes of those that *counts* counts.
    """

    def __init__(
        self, stage: Stage, case: Case, *, sets_only: bool, counts: points.Counts = points.touches
    ) -> None:
        self._stage, self._case, self._counts = stage, case, counts
        self._sets_only = sets_only
        self._stage.fresh()
        with stage.mount() as mounted:
            seen = look(mounted.root)
            self._born = {node.ino for path, node in seen.nodes.items() if path != b"."}
            for step in case.given:
                step(mounted.root)
            look(mounted.root)
            changing: list[bool] = []

            def note(call: Call) -> None:
                changing.append(points.changes(call))

            with Trap(mounted.pid, None, note, counts=self._counts):
                case.when(mounted.root)
            self._after = look(mounted.root)
        self.count = len(changing)
        self._last_change = max((place for place, does in enumerate(changing) if does), default=-1)

    def at(self, number: int, error: int) -> list[str]:
        """Return what is wrong where the call *number* fails with the errno *error*."""
        stage = self._stage
        stage.fresh()
        with stage.mount() as mounted:
            for step in self._case.given:
                step(mounted.root)
            before = look(mounted.root)
            hidden = look(stage.upper)
            told = 0
            act = points.failing(error)
            with Trap(mounted.pid, number, act, counts=self._counts) as trap:
                try:
                    self._case.when(mounted.root)
                except OSError as raised:
                    told = raised.errno or 0
            if trap.sprung is None:  # what the kernel asks besides is not always the same
                assert told == 0 and trap.count >= number - SLACK, f"only {trap.count} calls"
                return []
            wrong = list(self._judge(mounted.root, trap, before, told, error))
            if told:
                wrong += _more_hidden(hidden, look(stage.upper), stage.marks)
                wrong += self._again(mounted.root)
        return [f"{trap} {errno.errorcode[error]}, told {told}: {line}" for line in wrong]

    def _judge(self, root: bytes, trap: Trap, before: Tree, told: int, error: int) -> Iterator[str]:
        stage = self._stage
        assert trap.sprung is not None
        if told not in (0, error):
            yield "another error"
        blur = without_directory_times if trap.sprung.name == "utimensat" else _as_is
        live = blur(look(root))
        wrong = self._differing(live, blur(before if told else self._after))
        if wrong and self._too_late(trap):
            wrong = self._differing(live, blur(self._after))
        yield from wrong
        for kernels in stage.kernels(stage.copy()):
            for line in self._differing(blur(kernels), live, kinds=("dir",)):
                yield f"on disk: {line}"
        left = stage.leftovers()
        if left and (told or trap.sprung.name not in CLEANING):
            yield f"left in work: {left}"

    def _too_late(self, trap: Trap) -> bool:
        """Return whether the change was done, and only looking at it or syncing it failed."""
        assert trap.sprung is not None and trap.number is not None
        if trap.sprung.name == "fsync":
            return True
        return trap.number > self._last_change and not self._sets_only

    def _again(self, root: bytes) -> Iterator[str]:
        try:
            self._case.when(root)
        except FileExistsError:
            pass  # it was too late, and the comparison tells whether all is there
        except OSError as raised:
            yield f"tried again: {raised!r}"
        for line in self._differing(look(root), self._after):
            yield f"done again: {line}"

    def _differing(self, left: Tree, right: Tree, kinds: tuple[str, ...] = ()) -> list[str]:
        return differing(left, right, self._born, kinds=kinds)


def _more_hidden(before: Tree, now: Tree, marks: str) -> Iterator[str]:
    """Yield what the upper has after a failed change that it had not, and that may show one day.

    Copies may stay, and marks of what is where; but no whiteout, and nothing is taken away except
    where a directory came to be opaque instead.
    """
    for path in before.nodes.keys() - now.nodes.keys():
        above = now.nodes.get(os.path.dirname(path) or b".")
        if above is None or (f"{marks}.overlay.opaque", b"y") not in above.xattrs:
            yield f"gone from the upper: {path!r}"
    for path, node in now.nodes.items():
        if (node.kind, node.rdev) == ("char", 0) and path not in before.nodes:
            yield f"a new whiteout: {path!r}"


def _as_is(tree: Tree) -> Tree:
    return tree

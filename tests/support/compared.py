"""A table's calls, made in a plain directory, on the kernel's overlayfs and on the union.

All trials of a table share three mounts. Afterwards the kernel's overlayfs mounts what the union
wrote, and has to show the same.

In a user namespace the kernel's overlayfs has no redirects and no hard links, and nobody makes
devices or protects files. So the plain directory is compared with alone: where the union differs
from it, a row of the exceptions table has to give us the kernel's answer; and the next mount is the
union's again.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.support import effects, parity
from tests.support.callers import Callers
from tests.support.calls import Case, Trial
from tests.support.mounts import KernelOverlay, Mounted
from tests.support.stacks import IN_NAMESPACE, Layers

_DEVICES = ("char", "block")
_COARSE = 5  # CLOCK_REALTIME_COARSE, which filesystems take times from
Mounter = Callable[[Layers, bytes], Mounted]


@dataclass(frozen=True, slots=True)
class Difference:
    """One facet of one trial in which the union is wrong."""

    trial: Trial
    facet: str
    plain: object
    kernel: object
    ours: object

    def __str__(self) -> str:
        return (
            f"{self.trial}: {self.facet}\n"
            f"    plain  {parity.show(self.plain)}\n    kernel {parity.show(self.kernel)}\n"
            f"    ours   {parity.show(self.ours)}"
        )


@dataclass(slots=True)
class Outcome:
    """What became of one table: what is wrong, by case, and the rows that were needed."""

    wrong: list[list[Difference]]
    used: set[parity.Row]


class Tables:
    """Runs tables, each once, in folders below *disk*."""

    def __init__(
        self,
        tables: dict[str, Sequence[Case]],
        disk: bytes,
        mount_union: Mounter,
        rows: Sequence[parity.Row],
        *,
        lacks: frozenset[str] = frozenset(),
        again: Mounter | None = None,
    ) -> None:
        """*lacks*: the features that this union does not have; what needs one is left out.

        *again*: who mounts afterwards what the union wrote (None: the kernel, or in a user
        namespace the union itself).
        """
        self._tables = tables
        self._disk = disk
        self._mount_union = mount_union
        self._rows = rows
        self._lacks = lacks
        self._again = again or (mount_union if IN_NAMESPACE else KernelOverlay)
        self._outcomes: dict[str, Outcome] = {}
        self._failed: dict[str, Exception] = {}
        self._callers = Callers(self._perform)

    def _perform(self, table: str, index: int) -> object:
        case = self._tables[table][index]
        return case.call(*case.args)

    def close(self) -> None:
        self._callers.close()

    def outcome(self, table: str) -> Outcome:
        """Return what became of *table*, which is run when first asked for."""
        if table in self._failed:
            raise AssertionError(f"the table {table} could not be run") from self._failed[table]
        if table not in self._outcomes:
            folder = self._disk + b"/" + os.fsencode(table)
            try:
                self._outcomes[table] = self._run(table, folder)
            except Exception as error:
                self._failed[table] = error
                raise
            finally:
                _free(folder)
                subprocess.run(["rm", "-rf", "--", folder], check=True)  # any depth
        return self._outcomes[table]

    def _run(self, table: str, folder: bytes) -> Outcome:
        cases = self._tables[table]
        trials = [
            (index, trial)
            for index, case in enumerate(cases)
            if case.needs not in self._lacks
            for trial in case.trials()
            if _possible(trial)
        ]
        outcome = Outcome([[] for _ in cases], set())
        plain, kernels, ours = _build(folder, [trial for _, trial in trials])
        with ExitStack() as mounts:
            roots = [plain]
            if not IN_NAMESPACE:
                roots.append(mounts.enter_context(KernelOverlay(kernels, folder + b"/kernel")).root)
            roots.append(mounts.enter_context(self._mount_union(ours, folder + b"/union")).root)
            self._compare(table, trials, roots, outcome)
            kept = [effects.lasting(_folder(roots[-1], number)) for number in range(len(trials))]
        with self._again(ours, folder + b"/swapped") as swapped:
            for number, (index, trial) in enumerate(trials):
                seen = effects.lasting(_folder(swapped.root, number))
                for facet in sorted(kept[number].keys() | seen.keys()):
                    here, there = seen.get(facet, "missing"), kept[number].get(facet, "missing")
                    if here != there:
                        wrong = Difference(trial, f"kept {facet}", here, here, there)
                        outcome.wrong[index].append(wrong)
        return outcome

    def _compare(
        self, table: str, trials: Sequence[tuple[int, Trial]], roots: list[bytes], outcome: Outcome
    ) -> None:
        for root in roots:
            for number, (_, trial) in enumerate(trials):
                trial.case.folder.prepare(trial.scene, _folder(root, number))
        _await_tick()
        answers = [self._answers(table, trials, root) for root in roots]
        for (index, trial), *facets in zip(trials, *answers, strict=True):
            for facet in sorted(set().union(*facets)):
                plain, *others = (each.get(facet, "missing") for each in facets)
                three = (plain, others[0], others[-1])
                verdict = parity.judge(self._rows, f"{trial.subject} {facet}", *three)
                if verdict.row is not None:
                    outcome.used.add(verdict.row)
                if not verdict.right:
                    outcome.wrong[index].append(Difference(trial, facet, *three))

    def _answers(
        self, table: str, trials: Sequence[tuple[int, Trial]], root: bytes
    ) -> list[effects.Facets]:
        found = []
        for number, (index, trial) in enumerate(trials):
            folder = _folder(root, number)
            was = effects.before(folder)
            result = self._callers.ask(trial.user, folder, trial.case.umask, table, index)
            found.append({"result": result, **effects.after(folder, was, atime=trial.case.atime)})
        return found


def _possible(trial: Trial) -> bool:
    """Return whether its scene can be made here: devices and flags are for the machine's root."""
    return not IN_NAMESPACE or not any(
        thing.kind in _DEVICES or thing.flags for thing in trial.scene
    )


def _free(folder: bytes) -> None:
    """Take the flags away that hinder removing; of special files chattr(1) says it cannot."""
    words = ["chattr", "-f", "-R", "-i", "-a", "--", folder]
    subprocess.run(words, check=False, stderr=subprocess.DEVNULL)


def _folder(root: bytes, number: int) -> bytes:
    return root + b"/%d" % number


def _build(folder: bytes, trials: Sequence[Trial]) -> tuple[bytes, Layers, Layers]:
    """Make the plain directory and the layers of the two unions."""
    os.mkdir(folder, 0o755)
    os.mkdir(folder + b"/plain", 0o755)
    worlds = []
    for name in (b"k", b"u"):
        at = folder + b"/" + name
        os.mkdir(at, 0o755)
        for layer in (b"/lower", b"/upper", b"/work"):
            os.mkdir(at + layer, 0o755)
        worlds.append(Layers((at + b"/lower",), at + b"/upper", at + b"/work"))
    places = [(folder + b"/plain",) * 2, *((one.lowers[0], one.upper or b"") for one in worlds)]
    for lower, upper in places:
        for number, trial in enumerate(trials):
            name = b"/%d" % number
            trial.case.folder.build(trial.scene, lower + name, upper + name)
    return folder + b"/plain", worlds[0], worlds[1]


def _await_tick() -> None:
    """Return when a change from now on has another ctime than one before (no finer clock)."""
    start = time.clock_gettime_ns(_COARSE)
    while time.clock_gettime_ns(_COARSE) == start:
        time.sleep(0.001)

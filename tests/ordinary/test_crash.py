"""An ordinary user's daemon that is killed, or meets an error, at each system call of a change.

As in root's mounts (``tests/mount/crash``), but with no capability, and layers that say beside each
file whose it is. Root looks on, whom ``allow_other`` lets in.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.crash.test_failing import SETTING, Trial, fail_at
from tests.mount.crash.test_killed import kill_at_each, kill_between
from tests.support import points
from tests.support.crash_cases import CASES, STACK, TWO_WRITES, WITH_EXTENSION, Case
from tests.support.crashes import Stage
from tests.support.examples import FULL, TIMEOUT
from tests.support.layers import apply, emit
from tests.support.mounts import Spawner
from tests.support.ordinary import GID, UID, User
from tests.support.stacks import build_stack
from unionfs.ondisk.flavour import Flavour

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    pytest.mark.timeout(TIMEOUT),
]

ALL = {**TWO_WRITES, **CASES}
FAILING = ("chmod a file with an ACL", "truncate another's set-id file")
KILLED = ("rename a merged directory",)
BETWEEN = ("chmod a file with an ACL",)


class _UsersStage(Stage):
    """A stage whose directories are the user's."""

    def fresh(self) -> None:
        super().fresh()
        for path in (*self._paths(), self.folder + b"/ours"):
            os.makedirs(path, exist_ok=True)
            os.chown(path, UID, GID)


@pytest.fixture
def stage(user: User, tmp_path: Path) -> Iterator[Stage]:
    place = user.home.parent / tmp_path.name  # where others may enter
    place.mkdir()
    made = build_stack(os.fsencode(tmp_path / "stack"), STACK, writable=False).lowers
    lowers = []
    for number, layer in enumerate(made):
        (place / f"lower{number}").mkdir()
        written = apply(place / f"lower{number}", emit(layer), flavour=Flavour.USER)
        lowers.append(written.path)
    spawner = Spawner(
        python=user.python, cwd=user.home, env=user.env, user=UID, group=GID, extra_groups=[]
    )
    stage = _UsersStage(os.fsencode(place / "stage"), tuple(lowers), spawner)
    subprocess.run(["chown", "-hR", f"{UID}:{GID}", place], check=True)
    stage.as_a_users("kept owners")
    stage.options = (*stage.options, b"allow_other")
    yield stage
    spawner.close()


def _names(some: tuple[str, ...], cases: dict[str, Case]) -> list:
    return [
        pytest.param(name, marks=pytest.mark.needs_extension if name in WITH_EXTENSION else ())
        for name in (cases if FULL else some)
    ]


@pytest.mark.parametrize("name", _names(FAILING, ALL))
def test_failing(stage: Stage, name: str) -> None:
    counts = points.touches if FULL else points.changes_disk
    trial = Trial(stage, ALL[name], sets_only=name.startswith(SETTING), counts=counts)
    fail_at(trial, range(trial.count))


@pytest.mark.parametrize("name", _names(KILLED, CASES))
def test_killed(stage: Stage, name: str) -> None:
    kill_at_each(stage, name, 1 if FULL else 4)


@pytest.mark.parametrize("name", _names(BETWEEN, TWO_WRITES))
def test_killed_between_two_writes(stage: Stage, name: str) -> None:
    kill_between(stage, name, aside=True)

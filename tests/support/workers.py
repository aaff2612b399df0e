"""The suite in several processes at once (pytest-xdist): what each has of its own, who runs what.

A worker is to another what one run of the suite is to another. It starts in a mount namespace of
its own, with a mark of its own by which its daemons are found, and its temporary files are below a
directory of its own. What a test changes beyond that must make no difference to any other.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence

import execnet
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.support import leftovers

_ORDER = ("engines", "property", "ordinary", "mount", "cli", "frame", "unit")
_TOGETHER = ("tests/engines/", "tests/ordinary/")


def set_apart(specs: Sequence[execnet.XSpec]) -> None:
    """Let the workers of *specs* start with mounts (as root) and a mark of their own."""
    mark = leftovers.mark_this_session().decode().partition("=")[2]
    words = [sys.executable, "-I", "-S", os.path.join(os.path.dirname(__file__), "worker.py")]
    if os.geteuid() == 0:
        words = ["unshare", "--mount", "--propagation", "private", *words]
    for spec in specs:
        spec.env[leftovers.MARK] = f"{mark}-{spec.id}"
        spec.python = shlex.join(words)


def take_signals() -> None:
    """Let the thread of the tests, which calls this, take the signals that ``worker`` blocked."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def clear_after(spec: execnet.XSpec) -> None:
    """End what a worker left that died: its mounts go with the last process of its namespace."""
    mark = f"{leftovers.MARK}={spec.env[leftovers.MARK]}".encode()
    leftovers.clear([], leftovers.marked_processes(mark))


def slowest_first(items: list[pytest.Item]) -> None:
    """Put what takes long before the many short ones, so that all workers end at about one time."""
    rank = {folder: number for number, folder in enumerate(_ORDER)}
    items.sort(key=lambda item: rank.get(item.nodeid.split("/")[1], len(rank)))


def _unit(nodeid: str) -> str:
    """Return what one worker runs as a whole: a file, or a directory of _TOGETHER."""
    path = nodeid.partition("::")[0]
    return next((folder for folder in _TOGETHER if path.startswith(folder)), path)


class Units(LoadScopeScheduling):
    """Hands out whole files, so that what is made for a file or a directory is made once."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False  # the files with the most tests are not the slowest
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return _unit(nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        """Return the test that a dead worker was running; it is not run again, to end another."""
        units = self.assigned_work[node].values()
        pending = ((unit, name) for unit in units for name, done in unit.items() if not done)
        unit, last = next(pending, ({}, None))
        if last is not None:
            unit[last] = True
        super().remove_node(node)
        return last

    def _reschedule(self, node: WorkerController) -> None:
        """Give *node* more to do, or say that nothing comes: it keeps its last test until then."""
        super()._reschedule(node)
        if not self.workqueue and not node.shutting_down:
            node.shutdown()

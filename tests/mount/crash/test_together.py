"""The daemon killed while several clients work, each in a tree of its own.

Each knows what was acknowledged to it. After the next mount its tree is what a plain directory has
after those changes, or after those and the one that was under way. Copies that threads make, and
requests that wait for them, are in flight when the daemon dies.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support import points
from tests.support.crash_cases import side_by_side
from tests.support.crash_sequences import STEPS, Plain, Sequence, apply, flattened
from tests.support.crashes import GONE, Stage, dead, differing, look, without_directory_times
from tests.support.examples import FULL, TIMEOUT
from tests.support.fixtures import COMPARED
from tests.support.mounts import Spawner
from tests.support.points import Trap
from tests.support.stacks import build_stack

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    *COMPARED,
    pytest.mark.timeout(TIMEOUT),
]

CLIENTS = 4
CHANGES = 12  # a client's, at most
TRIALS = 300 if FULL else 10
LAST_CALL = 250  # about as many are made for all of the changes


@dataclass
class Client:
    """One client: the changes that it is to make, and how many were acknowledged."""

    folder: bytes
    changes: Sequence
    done: int = 0

    def work(self, root: bytes) -> None:
        for name in self.changes:
            if apply(root + self.folder, (name,))[0] in GONE:
                return
            self.done += 1


@pytest.fixture
def crowd(scratch: bytes, spawner: Spawner) -> Stage:
    """A stage whose layers hold the small tree once for each client."""
    lowers = build_stack(scratch + b"/l", side_by_side(CLIENTS), writable=False).lowers
    return Stage(scratch + b"/stage", lowers, spawner)


@pytest.mark.parametrize("seed", range(TRIALS))
def test_killed_in_a_crowd(crowd: Stage, scratch: bytes, seed: int):
    chance = random.Random(seed)
    clients = [
        Client(b"/t%d" % number, tuple(chance.choices(list(STEPS), k=CHANGES)))
        for number in range(CLIENTS)
    ]
    crowd.fresh()
    mounted = crowd.mount()
    threads = [threading.Thread(target=one.work, args=(mounted.root,)) for one in clients]
    with Trap(mounted.pid, chance.randrange(LAST_CALL), points.kill) as trap:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    if trap.sprung is None:
        mounted.unmount()
    else:
        dead(mounted)
    original = flattened(crowd.layers.lowers, scratch + b"/original")
    copy = crowd.copy()
    with crowd.mount() as again:
        for kernels in crowd.kernels(copy):
            assert differing(look(again.root), kernels, ()) == []
        wrong = [line for one in clients for line in _judged(one, again.root, original, scratch)]
    assert not wrong, f"{trap}\n" + "\n".join(wrong)


def _judged(client: Client, root: bytes, original: bytes, scratch: bytes) -> Iterator[str]:
    """Yield what is wrong with the tree of *client* below *root*."""
    plain = Plain(original + client.folder, scratch + b"/plain")
    seen = without_directory_times(look(root + client.folder))
    found = []
    for count in (client.done, client.done + 1):
        expected = without_directory_times(plain.after(client.changes[:count])[1])
        found.append(differing(seen, expected, ()))
    if all(found):
        made = client.changes[: client.done + 1]
        yield f"{client.folder!r} {made}: not before: {found[0]}; not after: {found[1]}"

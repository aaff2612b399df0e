"""What it costs to be traced: how many times as long the same requests take while somebody traces.

All of the requests reach the daemon. Traced and not, they take turns in one mount.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from statistics import median

from scripts.bench.place import Place, seconds

_ROUNDS = 9
_EACH = 4000  # requests of each kind in a round
_CALM = 0.4  # seconds in which the start of a program is forgotten
_STATS = "user.unionfs.stats"
_UNIONFS = os.path.join(os.path.dirname(sys.executable), "unionfs")


def summed_up(place: Place) -> float | None:
    """Return the ratio with ``--summary``; None for a mount that is not ours."""
    return _ratio(place, "--summary")


def recorded(place: Place) -> float | None:
    """Return the ratio with ``--record``; None for a mount that is not ours."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(place.tar)) as scratch:
        return _ratio(place, "--record", os.path.join(scratch, "recorded"))


def _ratio(place: Place, *words: str) -> float | None:
    if not _is_ours(place.merged):
        return None
    work = _requests(place)
    plain, traced = [], []
    for _ in range(_ROUNDS):
        time.sleep(_CALM)
        plain.append(seconds(work))
        with _traced(place.merged, words):
            traced.append(seconds(work))
    return median(traced) / median(plain)


def _is_ours(root: str) -> bool:
    try:
        return bool(os.getxattr(root, _STATS))
    except OSError:
        return False


def _requests(place: Place) -> Callable[[], None]:
    """Return what asks for names that are not there, writes single bytes, and asks for space."""
    numbers = count()
    path = place.at("tmp/written")

    def work() -> None:
        with open(path, "wb", buffering=0) as file:
            for number in range(_EACH):
                os.access(place.at(f"tmp/no-{next(numbers)}"), os.F_OK)
                os.pwrite(file.fileno(), b"x", number)
                os.statvfs(place.merged)

    return work


@contextmanager
def _traced(root: str, words: tuple[str, ...]) -> Iterator[None]:
    """Trace the mount on *root* during the block. Raises ChildProcessError for what is lost."""
    command = [_UNIONFS, "trace", "-q", root, *words]
    trace = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while _readers(root) == "off":
        if trace.poll() is not None:
            raise ChildProcessError(f"trace: {trace.communicate()[1]!r}")
        time.sleep(0.01)
    time.sleep(_CALM)
    try:
        yield
    finally:
        trace.terminate()  # not SIGINT, without which a shell starts its jobs in the background
        said = trace.communicate()[1]
    if said:
        raise ChildProcessError(f"trace: {os.fsdecode(said).strip()}")


def _readers(root: str) -> str:
    modes = json.loads(os.getxattr(root, _STATS))["modes"]
    return next(str(mode["is"]) for mode in modes if mode["mode"] == "tracing")

"""Time one Podman workload with unionfs, fuse-overlayfs and the kernel's overlayfs.

Each has a store of its own with the same image. They take turns, in another order each run, so
that a change of the machine's mood hits them alike: believe the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

from scripts.bench.contenders import NAMES, Contender, all_contenders, spawner
from scripts.bench.place import milliseconds
from scripts.bench.podman.images import image_layout, make_context
from scripts.bench.podman.ordinary import Caller, caller, lacks_subordinate_ids
from scripts.bench.podman.steps import NAME, STEPS, Step
from scripts.bench.podman.stores import PodmanError, Store
from scripts.bench.stats import Measured, table
from scripts.bench.words import count, say, some_of
from scripts.demo.image import CACHE
from scripts.demo.mirror import NoMirrorError

_SERVED = "unionfs-serve"  # ours, with the resident spawner
_NAMES = [*NAMES, _SERVED]
_USUAL = [name for name in _NAMES if name != "fuse-overlayfs-rs"]
_RUNTIMES = ("runc", "crun")


def main() -> int:
    """Run what the command line asks for; the exit status is 1 when a measurement failed."""
    asked = _arguments()
    if os.geteuid() != 0 and lacks_subordinate_ids():
        sys.exit("bench: you have no subordinate user IDs: see /etc/subuid, and subuid(5)")
    if not shutil.which("podman"):
        sys.exit("bench: podman is not installed")
    runtime = next(filter(shutil.which, _RUNTIMES), None)
    if runtime is None:
        sys.exit(f"bench: none of {', '.join(_RUNTIMES)} is installed")
    cache = os.path.join(CACHE, "bench")
    os.makedirs(cache, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by a signal"))
    try:
        image = asked.image or f"oci:{image_layout(asked.files)}"
        transport, _, path = image.partition(":")
        reads = [os.path.dirname(os.path.abspath(path))] if os.path.exists(path) else []
        with caller(cache, reads, ordinary=asked.user) as who:
            if (
                reads
            ):  # under a short name: Podman makes the image's of it, and not all paths will do
                os.symlink(os.path.abspath(path), os.path.join(who.place, "image"))
                image = f"{transport}:image"
            bench = _measure(who, _drivers(cache, asked.contenders, who), runtime, image, asked)
    except (OSError, PodmanError, NoMirrorError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench: {error}")
    _report(bench, asked)
    return 1 if bench.failures else 0


@dataclass(frozen=True, slots=True)
class _Driver:
    """One that is compared: what mounts, and whether it is started by the spawner."""

    name: str
    contender: Contender
    served: bool

    @property
    def program(self) -> str:
        """Return the mount program, "" for the kernel."""
        return "" if self.contender.name == "kernel" else self.contender.command[0]


class _Bench:
    """The measurements so far: ``results`` by step, ``failures`` as lines."""

    def __init__(self, who: Caller, stores: dict[_Driver, Store], files: int) -> None:
        self.names = [driver.name for driver in stores]
        self.results = [Measured(step.name, "ms") for step in STEPS]
        self.failures: list[str] = []
        self._stores = stores
        self._context = os.path.join(who.place, "context")
        self._socket = os.path.join(who.place, "serve")
        make_context(self._context, files)

    def run(self, number: int) -> None:
        """Take every driver through all the steps; which one begins depends on *number*."""
        for step, measured in zip(STEPS, self.results, strict=True):
            order = list(self._stores)
            turn = number % max(len(order), 1)
            for driver in order[turn:] + order[:turn]:
                say(f"run {number + 1}: {step.name}: {driver.name}")
                self._step(step, driver, measured)

    def _step(self, step: Step, driver: _Driver, measured: Measured) -> None:
        """Time a step; a driver that fails is left out of all that follows."""
        store = self._stores[driver]
        words = step.command(self._context)
        try:
            with contextlib.ExitStack() as stack:
                if driver.served:
                    stack.enter_context(spawner(driver.contender, self._socket))
                os.sync()
                took = milliseconds(partial(store.podman, *words))
                store.settle()
            measured.add(driver.name, took)
        except (OSError, PodmanError) as error:
            self.failures.append(f"{step.name}: {driver.name}: {error}")
            del self._stores[driver]


def _measure(
    who: Caller, drivers: list[_Driver], runtime: str, image: str, asked: argparse.Namespace
) -> _Bench:
    with contextlib.ExitStack() as stack:
        stores = {}
        for driver in drivers:
            say(f"loading the image: {driver.name}")
            made = Store(who, driver.name, driver.program, runtime)
            store = stack.enter_context(contextlib.closing(made))
            store.podman("tag", store.podman("pull", "--quiet", image).strip(), NAME)
            stores[driver] = store
        bench = _Bench(who, stores, asked.unpacked)
        for number in range(asked.runs):
            bench.run(number)
        say("")
        return bench


def _drivers(cache: str, wanted: list[str], who: Caller) -> list[_Driver]:
    """Return those of *wanted* that are here; what is not is named on standard error.

    A resident spawner is root's.
    """
    if not who.is_root:
        wanted = [name for name in wanted if name != _SERVED]
    plain = dict.fromkeys("unionfs" if name == _SERVED else name for name in wanted)
    found = {each.name: each for each in all_contenders(cache, list(plain), False)}
    names = [(name, "unionfs" if name == _SERVED else name) for name in wanted]
    return [_Driver(name, found[of], name == _SERVED) for name, of in names if of in found]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-podman", description=__doc__)
    parser.add_argument(
        "--contenders", type=some_of(_NAMES), default=_USUAL, help="of " + ", ".join(_NAMES)
    )
    parser.add_argument("--runs", type=count, default=3, help="of each step and contender")
    parser.add_argument(
        "--files", type=count, default=60_000, help="in the image, which is the demo's and more"
    )
    parser.add_argument(
        "--unpacked", type=count, default=3000, help="files that are untarred in it"
    )
    parser.add_argument(
        "--image", metavar="SOURCE", help="what `podman pull` takes, instead: oci:DIR and others"
    )
    parser.add_argument(
        "--user",
        action="store_true",
        help="rootless: as an ordinary user, whom root makes up; without root always so",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one run, few files: whether it works, not how fast"
    )
    asked = parser.parse_args()
    if asked.quick:
        asked.runs, asked.files, asked.unpacked = 1, 1, 200  # the demo's image is the least
    return asked


def _report(bench: _Bench, asked: argparse.Namespace) -> None:
    baseline = "fuse-overlayfs" if "fuse-overlayfs" in bench.names else bench.names[0]
    whose = "rootless" if asked.user or os.geteuid() else "as root"
    print(f"{platform.release()}, {os.cpu_count()} CPUs, {whose}; medians of {asked.runs} runs")
    print(f"x: of {baseline}'s median, less is better\n")
    print(table(bench.results, bench.names, baseline))
    for failure in bench.failures:
        print(f"FAILED {failure}")


if __name__ == "__main__":
    sys.exit(main())

"""Time unionfs beside the kernel's overlayfs and fuse-overlayfs on the demo image's layers.

Every measurement has a fresh mount with an empty upper. The contenders take turns, in another
order each run, so that a change of the machine's mood hits them alike: believe the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from scripts.bench import daemon, userns
from scripts.bench.contenders import (
    FLOORS,
    HOLLOW,
    NAMES,
    OURS,
    Contender,
    all_contenders,
    daemon_of,
    spawner,
)
from scripts.bench.importing import measure_imports
from scripts.bench.place import (
    Place,
    Samples,
    choose_samples,
    drop_caches,
    milliseconds,
)
from scripts.bench.rows import ROWS, Row
from scripts.bench.stats import Measured, table
from scripts.bench.words import count, say, some_of
from scripts.bench.workshop import Workshop
from scripts.demo import image

MOUNT, IMPORT = "mount-to-ready", "import"
SERVED = "mount-by-serve"  # with the resident spawner
STARTS = {  # what our mounts cannot be quicker than, without the spawner and with it
    "python-imports": "import trio, pyfuse3",
    "python-starts": "pass",
}


def main() -> int:
    """Run what the command line asks for; the exit status is 1 when a measurement failed."""
    asked = _arguments()
    if os.geteuid() != 0:
        sys.exit("bench: needs root: sudo make bench")
    if not image.is_made():
        print("bench: making the demo's image first", file=sys.stderr)
        image.make()
    workshop = Workshop(asked.userns)
    if asked.userns:
        userns.enter()
    wanted = [*asked.contenders, *(FLOORS if asked.floor else ())]
    with contextlib.closing(workshop):
        bench = Bench(workshop, all_contenders(workshop.cache, wanted, asked.userns))
        bench.run(asked.rows, asked.runs)
        if IMPORT in asked.rows:
            bench.results[IMPORT] = measure_imports(workshop, asked.runs)
        _report(bench, asked)
    return 1 if bench.failures else 0


class Bench:
    """The measurements so far: ``results`` by the row's name, ``failures`` as lines.

    ``work`` is what our daemon did for each row.
    """

    def __init__(self, workshop: Workshop, contenders: list[Contender]) -> None:
        self.workshop = workshop
        self.contenders = contenders
        self.results: dict[str, Measured] = {}
        self.work = daemon.Work()
        self.failures: list[str] = []
        self.cold = "fresh mount"
        self.samples = self._agreed_samples()

    def run(self, wanted: list[str], runs: int) -> None:
        """Measure the *wanted* rows *runs* times."""
        rows = [row for row in ROWS if row.name in wanted]
        for number in range(runs):
            turn = number % max(len(self.contenders), 1)
            order = self.contenders[turn:] + self.contenders[:turn]
            if number % 2:
                order.reverse()  # else one would always come after the same other, and its dirt
            if MOUNT in wanted:
                for contender in (each for each in order if each.name not in FLOORS):
                    self._note(MOUNT, "ms", contender, self._mount)
                    if contender.name == OURS:
                        self._our_starts(contender)
            for row in rows:
                say(f"run {number + 1} of {runs}: {row.name}")
                for contender in order:
                    self._note(row.name, row.unit, contender, partial(self._measure, row))
        say("")

    def _agreed_samples(self) -> Samples:
        """Choose the samples in one mount, and see that every other shows as many entries."""
        seen: dict[str, Samples] = {}
        for contender in list(self.contenders):
            try:
                with self.workshop.stack() as stack, contender.mounted(stack):
                    seen[contender.name] = choose_samples(stack.merged)
            except OSError as error:
                self.contenders.remove(contender)
                self.failures.append(f"{contender.name}: {error}")
        if not seen:
            sys.exit("bench: nothing to measure: " + "; ".join(self.failures))
        if len({samples.entries for samples in seen.values()}) > 1:
            counts = ", ".join(f"{name} {samples.entries}" for name, samples in seen.items())
            self.failures.append(f"the contenders show different trees: entries: {counts}")
        return next(iter(seen.values()))

    def _mount(self, contender: Contender) -> float | None:
        with self.workshop.stack() as stack:
            took = milliseconds(lambda: contender.mount(stack))
            contender.unmount(stack)
            return took

    def _our_starts(self, ours: Contender) -> None:
        with self.workshop.scratch() as place, spawner(ours, os.path.join(place, "serve")):
            self._note(SERVED, "ms", ours, self._mount)
        for name, program in STARTS.items():
            self._note(name, "ms", ours, partial(_start, program))

    def _measure(self, row: Row, contender: Contender) -> float | None:
        if contender.name in (FLOORS if row.read_only else HOLLOW if row.real else ()):
            return None
        made = self.workshop.stack(
            row.on, stored=row.stored, read_only=row.read_only, passes=row.passes
        )
        with made as stack, contender.mounted(stack):
            place = Place(stack.merged, self.samples, self.workshop.tar, daemon_of(stack))
            if not os.path.lexists(place.at(row.needs)):
                return None
            self.workshop.warm()
            os.sync()
            if row.cold and drop_caches():
                self.cold = "fresh mount, the machine's caches emptied"
            if contender.name != OURS or place.daemon is None:
                return row.work(place)
            before = daemon.cpu_ms(place.daemon)
            value = row.work(place)
            self.work.note(row.name, place.merged, daemon.cpu_ms(place.daemon) - before)
            return value

    def _note(
        self,
        name: str,
        unit: str,
        contender: Contender,
        measure: Callable[[Contender], float | None],
    ) -> None:
        """Add one value to the row *name*; a contender that fails costs that one value only."""
        measured = self.results.setdefault(name, Measured(name, unit))
        try:
            value = measure(contender)
        except (OSError, subprocess.CalledProcessError) as error:
            self.failures.append(f"{name}: {contender.name}: {error}")
            return
        if value is not None:
            measured.add(contender.name, value)


def _start(program: str, _: Contender) -> float:
    words = [sys.executable, "-c", program]
    return milliseconds(lambda: subprocess.run(words, check=True))


def _arguments() -> argparse.Namespace:
    names = [MOUNT, *(row.name for row in ROWS), IMPORT]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rows", type=some_of(names), default=names, help="of " + ", ".join(names))
    parser.add_argument("--contenders", type=some_of(list(NAMES)), default=list(NAMES))
    parser.add_argument("--runs", type=count, default=5, help="of each row and contender")
    parser.add_argument(
        "--floor", action="store_true", help="time a FUSE server that does next to nothing as well"
    )
    parser.add_argument("--userns", action="store_true", help="mount as a user namespace's root")
    parser.add_argument("--json", metavar="FILE", help="write every single value there too")
    return parser.parse_args()


def _report(bench: Bench, asked: argparse.Namespace) -> None:
    names = [contender.name for contender in bench.contenders]
    baseline = "fuse-overlayfs" if "fuse-overlayfs" in names else names[0]
    rows = [row for name, row in bench.results.items() if name != IMPORT]
    who = "root of a user namespace" if asked.userns else "root"
    print(f"{platform.release()}, {os.cpu_count()} CPUs, as {who}; medians of {asked.runs} runs")
    print(f"{bench.samples.entries} entries in {len(bench.workshop.lowers)} layers")
    print(f"cold: {bench.cold}; x: of {baseline}'s median, less is better\n")
    print(table(rows, names, baseline))
    if tables := bench.work.tables():
        print("\n" + tables)
    if imported := bench.results.get(IMPORT):
        print("\n" + table([imported], list(imported.values), "umoci"))
    for failure in dict.fromkeys(bench.failures):
        print(f"FAILED {failure}")
    if asked.json:
        with open(asked.json, "w", encoding="utf-8") as file:
            values = {name: row.values for name, row in bench.results.items()}
            took = {name: row.values for name, row in bench.work.times.items()}
            asked_for = {name: row.values for name, row in bench.work.requests.items()}
            json.dump({**values, "daemon": took, "requests": asked_for}, file, indent=1)


if __name__ == "__main__":
    sys.exit(main())

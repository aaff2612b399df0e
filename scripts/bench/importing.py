"""`unionfs image import` beside `umoci unpack`: the same image, each into an empty place."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

from scripts.bench.place import milliseconds
from scripts.bench.stats import Measured
from scripts.bench.workshop import Workshop

TAG = "latest"


def measure_imports(workshop: Workshop, runs: int) -> Measured:
    """Time both *runs* times, in turns."""
    measured = Measured("import", "ms")
    commands = {"umoci": _umoci, "unionfs": _ours}
    for number in range(runs):
        names = sorted(commands, reverse=bool(number % 2))
        for name in names:
            with workshop.scratch() as place:
                words = commands[name](workshop.oci, place)
                os.sync()
                measured.add(name, milliseconds(partial(_run, words)))
    return measured


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _umoci(layout: str, place: str) -> list[str]:
    return ["umoci", "unpack", "--image", f"{layout}:{TAG}", os.path.join(place, "bundle")]


def _ours(layout: str, place: str) -> list[str]:
    program = os.path.join(os.path.dirname(sys.executable), "unionfs")
    return [program, "--root", os.path.join(place, "store"), "image", "import", f"oci:{layout}"]

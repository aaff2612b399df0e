"""Import and export of an image beside the tools that do the same: time, and our peak memory.

    sudo .venv/bin/python -m scripts.bench.images --megabytes 1000 --files 60000 --runs 3

The image holds files of this machine's /usr in four layers, as many as asked for; it is made once.
Every import goes to an empty place on the same disk, and is timed twice: until the command ends,
and until all is on the disk, which our import waits for and others leave to the kernel. Believe
the ratios: the contenders take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence

from scripts.bench.stats import Measured, table
from scripts.demo.image import CACHE
from unionfs.image.writer import pack_layout
from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls.publish import sync_filesystem

_TAG = "bench"
_LAYERS = 4
_OURS = os.path.join(os.path.dirname(sys.executable), "unionfs")


def main() -> int:
    """Measure what the command line asks for, and print it."""
    parser = argparse.ArgumentParser(prog="scripts.bench.images", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200, help="of the files in the image")
    parser.add_argument("--files", type=int, default=12000, help="at most")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: needs root")
    bench = _Bench(_image(asked.megabytes, asked.files))
    for number in range(asked.runs):
        bench.run(number)
    print(bench.report())
    return 0


class _Bench:
    """The measurements of one image, an OCI layout with its archive beside it."""

    def __init__(self, layout: str) -> None:
        self._layout = layout
        self._rows: dict[str, Measured] = {}
        self._peak = {"import": 0, "export": 0}  # KiB

    def run(self, number: int) -> None:
        """Let everybody import, in turns, then export."""
        steps = [self._ours, self._umoci, self._podman]
        turn = number % len(steps)
        for step in steps[turn:] + steps[:turn]:
            with _scratch() as place:
                step(place)

    def report(self) -> str:
        """Return the tables."""
        imports = [self._rows["import"], self._rows["import-to-disk"]]
        exports = [self._rows["export"], self._rows["export-to-disk"]]
        memory = ", ".join(f"{verb} {kib / 1024:.0f} MiB" for verb, kib in self._peak.items())
        return "\n\n".join(
            (
                table(imports, ["podman", "umoci", "unionfs"], "podman"),
                table(exports, ["skopeo", "unionfs"], "skopeo"),
                f"unionfs's peak memory: {memory}",
            )
        )

    def _ours(self, place: str) -> None:
        ours = [_OURS, "--root", f"{place}/store", "image"]
        words = [*ours, "import", f"oci:{self._layout}", "--name", _TAG]
        self._peak["import"] = max(self._peak["import"], self._time("import", "unionfs", words))
        words = [*ours, "export", _TAG, f"oci:{place}/ours"]
        self._peak["export"] = max(self._peak["export"], self._time("export", "unionfs", words))
        words = ["skopeo", "copy", f"oci:{self._layout}:{_TAG}", f"oci:{place}/skopeos:{_TAG}"]
        self._time("export", "skopeo", words)

    def _umoci(self, place: str) -> None:
        words = ["umoci", "unpack", "--image", f"{self._layout}:{_TAG}", f"{place}/bundle"]
        self._time("import", "umoci", words)

    def _podman(self, place: str) -> None:
        storage = [f"--root={place}/root", f"--runroot={place}/run", "--storage-driver=overlay"]
        words = ["podman", *storage, "load", "-q", "-i", f"{self._layout}.tar"]
        self._time("import", "podman", words)

    def _time(self, row: str, who: str, words: Sequence[str]) -> int:
        """Run *words*, note how long that takes, and return its peak memory in KiB."""
        os.sync()
        start = time.perf_counter()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ended = time.perf_counter() - start
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, words)
        _sync(self._layout)
        on_disk = time.perf_counter() - start
        for name, value in ((row, ended), (f"{row}-to-disk", on_disk)):
            self._rows.setdefault(name, Measured(name, "ms")).add(who, value * 1e3)
        return usage.ru_maxrss


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    top = tempfile.mkdtemp(dir=os.path.join(CACHE, "bench"), prefix="run-")
    try:
        yield top
    finally:
        if os.path.ismount(f"{top}/root/overlay"):  # podman keeps its storage a private mount
            subprocess.run(["umount", f"{top}/root/overlay"], check=True)
        subprocess.run(["rm", "-rf", "--one-file-system", top], check=True)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_filesystem(fd)
    finally:
        os.close(fd)


def _image(megabytes: int, files: int) -> str:
    """Return the layout of an image of this size; its archive is ``.tar`` beside it."""
    place = os.path.join(CACHE, "bench", f"image-{megabytes}-{files}")
    if os.path.exists(f"{place}.tar"):
        return place
    print("bench: making the image first", file=sys.stderr)
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(place)) as trees:
        layers = [os.path.join(trees, str(number)) for number in range(_LAYERS)]
        _copy_files(layers, megabytes << 20, files)
        pack_layout(place, layers, flavour=Flavour.TRUSTED, reference=_TAG)
    with tarfile.open(f"{place}.part", "w") as archive:
        archive.add(place, ".")
    os.rename(f"{place}.part", f"{place}.tar")
    return place


def _copy_files(layers: Sequence[str], size: int, count: int) -> None:
    """Copy files from /usr into the directories *layers*, up to *size* bytes and *count* files.

    Those larger than a hundredth of all are left out: they would leave few files.
    """
    chosen = list(itertools.islice(_files(size), count))
    for layer in layers:
        os.mkdir(layer, 0o755)
    for number, path in enumerate(chosen):
        target = layers[number * len(layers) // len(chosen)] + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy2(path, target)
    total = sum(map(os.path.getsize, chosen)) >> 20
    print(f"bench: {len(chosen)} files with {total} MiB", file=sys.stderr)


def _files(size: int) -> Iterator[str]:
    """Yield files of /usr that have *size* bytes together at most, in a steady order."""
    left = size
    for here, folders, names in os.walk("/usr"):
        folders.sort()
        for path in (os.path.join(here, name) for name in sorted(names)):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_size <= min(size // 100, left):
                left -= status.st_size
                yield path


if __name__ == "__main__":
    sys.exit(main())

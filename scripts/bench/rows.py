"""The rows: small jobs of a container's life, each on a fresh mount with an empty upper.

A row's function gets the mount and returns its number. What has to happen first (a warm cache,
a chosen path) it does before it starts the clock. Nothing here is in the page cache of the mount
itself unless the row's name says "warm" or "hot".
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from scripts.bench.contenders import resident_mib
from scripts.bench.place import Place, inside, microseconds_each, milliseconds, shell
from scripts.bench.towers import IMAGE, TALL, TALLER, WIDE, folders
from scripts.bench.traced import recorded, summed_up

BIG = "bench/big"
MIB = 1 << 20
_BLOCK = 4096
_COMPILE = """
cd /tmp; for i in 1 2 3; do
printf '#include <stdio.h>\\n#include <stdlib.h>\\n#include <pthread.h>\\n#include <math.h>\\n
int main(void) { puts("ok"); return 0; }\\n' > a$i.c; gcc -O1 -o a$i a$i.c; ./a$i; done
"""
_IMPORTS = """
for i in 1 2 3; do
python3 -c 'import json, http.client, email.message, decimal, asyncio, unittest, xml.dom.minidom'
done
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; *cold* empties the machine's caches first, *needs* must be there.

    *on* is the stack that is mounted: one of ``towers``, or the image's; *stored*: our contender
    mounts it as an image of a store, the others the directories. *real*: it means nothing where
    files have no content or the daemon does nothing, as with the floor. *read_only*: there is no
    upper, which the floor needs. *passes*: ours lets the kernel have files (``data=passthrough``).
    """

    name: str
    unit: str
    work: Callable[[Place], float | None]
    cold: bool = False
    needs: str = ""
    on: str = ""
    stored: bool = False
    real: bool = False
    read_only: bool = False
    passes: bool = False


def _tar(place: Place) -> float:
    # Through a pipe: tar sees /dev/null as its output and would then not read the files at all.
    return milliseconds(lambda: shell("tar -cf - . | cat > /dev/null", place.merged))


def _find(place: Place) -> float:
    return milliseconds(lambda: shell("find . -xdev", place.merged))


def _warm(work: Callable[[Place], float]) -> Callable[[Place], float]:
    def second(place: Place) -> float:
        work(place)
        return work(place)

    return second


def _four_finds(place: Place) -> float:
    def work() -> None:
        finds = [
            subprocess.Popen(["find", place.merged, "-xdev"], stdout=subprocess.DEVNULL)
            for _ in range(4)
        ]
        statuses = [find.wait() for find in finds]  # every one is waited for
        if any(statuses):
            raise ChildProcessError("a find failed")

    return milliseconds(work)


def _hot_stat(place: Place) -> float:
    return microseconds_each([place.at(path) for path in place.samples.files], 50, os.stat)


def _read_whole(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, MIB)
    finally:
        os.close(descriptor)


def _hot_open(place: Place) -> float:
    return microseconds_each([place.at(path) for path in place.samples.files], 20, _read_whole)


def _hot_listdir(place: Place) -> float:
    paths = [place.at(path) for path in place.samples.directories]
    return microseconds_each(paths, 20, os.listdir)


def _missing(path: str) -> None:
    try:
        os.stat(path)
    except FileNotFoundError:
        return
    raise FileExistsError(path)


def _failed_again(place: Place) -> float:
    paths = [place.at(f"{path}.no") for path in place.samples.files]
    return microseconds_each(paths, 50, _missing)


def _failed_first(place: Place) -> float:
    os.listdir(place.at("usr/bin"))
    names = [place.at(f"usr/bin/no-{number}") for number in range(4000)]

    def work() -> None:
        for name in names:
            _missing(name)

    return milliseconds(work) * 1e3 / len(names)


def _read_through(place: Place) -> float:
    def work() -> None:
        with open(place.at(BIG), "rb", buffering=0) as file:
            while file.read(MIB):
                pass

    return milliseconds(work)


def _read_again(place: Place) -> float:
    _read_through(place)
    return _read_through(place)


def _read_randomly(place: Place) -> float:
    descriptor = os.open(place.at(BIG), os.O_RDONLY)
    try:
        return _randomly(descriptor, lambda at, offset: os.pread(at, _BLOCK, offset))
    finally:
        os.close(descriptor)


def _randomly(at: int, one: Callable[[int, int], object]) -> float:
    """Time *one* on the file open as *at*, at 5,000 blocks."""
    blocks = os.fstat(at).st_size // _BLOCK
    chance = random.Random(7)
    offsets = [chance.randrange(blocks) * _BLOCK for _ in range(5000)]
    return milliseconds(lambda: [one(at, offset) for offset in offsets])


def _write(path: str, piece: bytes, times: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for _ in range(times):
            file.write(piece)


def _write_through(place: Place) -> float:
    return milliseconds(lambda: _write(place.at("tmp/new"), bytes(MIB), 256))


def _rewrite_randomly(place: Place) -> float:
    _write(place.at("tmp/new"), bytes(MIB), 256)
    descriptor = os.open(place.at("tmp/new"), os.O_RDWR)
    try:
        return _randomly(descriptor, lambda at, offset: os.pwrite(at, bytes(_BLOCK), offset))
    finally:
        os.close(descriptor)


def _write_bits(place: Place) -> float:
    return milliseconds(lambda: _write(place.at("tmp/new"), bytes(512), 20_000))


def _untar(place: Place) -> float:
    return milliseconds(lambda: shell(f"tar -xf '{place.tar}'", place.at("tmp")))


def _create_rename_unlink(place: Place) -> float:
    def work() -> None:
        for number in range(1000):
            name = place.at(f"tmp/file-{number}")
            _write(name, b"some bytes", 1)
            os.rename(name, name + ".renamed")
            os.unlink(name + ".renamed")

    return milliseconds(work)


def _copy_up(place: Place) -> float:
    def work() -> None:
        with open(place.at(BIG), "r+b", buffering=0) as file:
            file.write(b"x")

    return milliseconds(work)


def _remove(place: Place) -> float:
    return milliseconds(lambda: shell("rm -rf usr", place.merged))


def _change_modes(place: Place) -> float:
    return milliseconds(lambda: shell("chmod -R g+w usr/share", place.merged))


def _python(place: Place) -> float:
    return milliseconds(lambda: inside(place.merged, _IMPORTS))


def _compile(place: Place) -> float:
    return milliseconds(lambda: inside(place.merged, _COMPILE))


def _lookups(place: Place) -> float:
    """Time 10,000 first lookups in a tower, half of them of names that are not there."""
    chance = random.Random(3)
    paths = [place.at(f"{folder}/no-{number}") for folder in folders() for number in range(50)]
    for folder in folders():
        names = sorted(os.listdir(place.at(folder)))
        paths += [place.at(f"{folder}/{name}") for name in chance.sample(names, 50)]
    chance.shuffle(paths)

    def work() -> None:
        for path in paths:
            os.path.lexists(path)

    return milliseconds(work)


def _idle(place: Place) -> float | None:
    return resident_mib(place.daemon) if place.daemon is not None else None


def _memory(place: Place) -> float | None:
    _tar(place)
    return resident_mib(place.daemon) if place.daemon is not None else None


ROWS = (
    Row("find-cold", "ms", _find, cold=True),
    Row("find-warm", "ms", _warm(_find)),
    Row("find-4-at-once", "ms", _four_finds),
    Row("tar-cold", "ms", _tar, cold=True),
    Row("tar-warm", "ms", _warm(_tar)),
    Row("find-cold-image", "ms", _find, cold=True, on=IMAGE, stored=True),
    Row("find-4-at-once-image", "ms", _four_finds, on=IMAGE, stored=True),
    Row("tar-cold-image", "ms", _tar, cold=True, on=IMAGE, stored=True),
    Row("stat-hot", "us", _hot_stat),
    Row("open-read-close-hot", "us", _hot_open),
    Row("listdir-hot", "us", _hot_listdir),
    Row("lookup-fails-first", "us", _failed_first, needs="usr/bin"),
    Row("lookup-fails-again", "us", _failed_again),
    Row("read-sequential-256M", "ms", _read_through),
    Row("read-again-256M", "ms", _read_again),
    Row("read-random-5000x4K", "ms", _read_randomly),
    Row("read-sequential-256M-ro", "ms", _read_through, read_only=True, passes=True),
    Row("read-again-256M-ro", "ms", _read_again, read_only=True, passes=True),
    Row("write-sequential-256M", "ms", _write_through),
    Row("write-20000x512B", "ms", _write_bits),
    Row("write-random-5000x4K", "ms", _rewrite_randomly),
    Row("write-random-5000x4K-passing", "ms", _rewrite_randomly, passes=True),
    Row("write-sequential-256M-passing", "ms", _write_through, passes=True),
    Row("write-20000x512B-passing", "ms", _write_bits, passes=True),
    Row("untar-3000-files", "ms", _untar),
    Row("create-rename-unlink-1000", "ms", _create_rename_unlink),
    Row("rm-rf-usr", "ms", _remove, needs="usr"),
    Row("chmod-R-usr-share", "ms", _change_modes, needs="usr/share"),
    Row("copy-up-256M", "ms", _copy_up, real=True),
    Row("python-imports-3", "ms", _python, needs="usr/bin/python3", real=True),
    Row("compile-c-3", "ms", _compile, needs="usr/bin/gcc", real=True),
    Row(
        "python-imports-3-image",
        "ms",
        _python,
        needs="usr/bin/python3",
        on=IMAGE,
        stored=True,
        real=True,
    ),
    *(
        row
        for tall in (TALL, TALLER)
        for row in (
            Row(f"find-cold-{tall}", "ms", _find, cold=True, on=tall),
            Row(f"lookups-10000-{tall}", "ms", _lookups, on=tall),
            Row(f"find-cold-{tall}-image", "ms", _find, cold=True, on=tall, stored=True),
            Row(f"lookups-10000-{tall}-image", "ms", _lookups, on=tall, stored=True),
        )
    ),
    Row("requests-while-summed-up", "x", summed_up, real=True),
    Row("requests-while-recorded", "x", recorded, real=True),
    Row("memory-idle", "MiB", _idle, real=True),
    Row("memory-after-walk", "MiB", _memory, real=True),
    Row(f"memory-after-{WIDE}", "MiB", _memory, on=WIDE, real=True),
)

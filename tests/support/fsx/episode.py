"""An episode: some operations on files of a fresh mount, in a child process; and shrinking.

In a child, because a broken filesystem answers the access to a mapping with SIGBUS.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import mmap
import os
import random
import struct
import subprocess
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support import kernel
from tests.support.files import read
from tests.support.fsx.exerciser import Exerciser, Subject
from tests.support.fsx.ops import LIMIT, Op, operations
from tests.support.mounts import Mounted
from tests.support.stacks import Dir, Entry, File, Layers, Link, build_stack

KINDS = ("upper", "lower", "midway", "linked", "removed", "metacopy")
_TRIES = 150  # runs that shrinking may take
Mounter = Callable[[Layers, bytes], Mounted]


@dataclass(frozen=True)
class Plan:
    """What an episode is made from.

    *kind*: where the files are. ``upper``: made in the mount; ``lower``: in a layer, and changed at
    once; ``midway``: in a layer, read for a while before the first change; ``linked``: so, with
    several names; ``removed``: so, and the first file loses its name in the middle; ``metacopy``:
    left by the kernel in the upper without their data.
    """

    kind: str
    seed: int
    count: int
    files: int = 2

    def operations(self) -> list[Op]:
        """Return the operations of this plan's seed."""
        rng = random.Random(self.seed)
        reading = 0 if self.kind in ("upper", "lower") else rng.randrange(self.count // 2)
        removing = rng.randrange(self.count) if self.kind == "removed" else -1
        made = operations(
            self.seed, self.count, files=self.files, reading=reading, removing=removing
        )
        return list(made)

    def contents(self) -> list[bytes]:
        """Return what each file has at first: with a hole, small, empty or of any size."""
        rng = random.Random(self.seed)
        found = []
        for _ in range(self.files):
            size = rng.choice((0, 1, 100, 4096, LIMIT, rng.randrange(LIMIT), rng.randrange(LIMIT)))
            hole = rng.randrange(size + 1) if rng.random() < 0.3 else 0
            found.append(bytes(hole) + rng.randbytes(size - hole))
        return found


@dataclass(frozen=True)
class Failure:
    """What went wrong, and at which operation (their count: at the end)."""

    what: str
    at: int


@dataclass(frozen=True)
class Outcome:
    """What an episode came to; ``done`` counts the operations performed, by kind."""

    failure: Failure | None
    done: dict[str, int]


def run(folder: bytes, plan: Plan, ops: Sequence[Op], mounter: Mounter) -> Outcome:
    """Run *ops* on the files of *plan* under a mount; *folder* must not exist, and goes.

    Afterwards a new mount must show the same, and the layer must be as it was.
    """
    try:
        return _run(folder, plan, ops, mounter)
    finally:
        subprocess.run(["rm", "-rf", "--", folder], check=True)


def _run(folder: bytes, plan: Plan, ops: Sequence[Op], mounter: Mounter) -> Outcome:
    contents = plan.contents()
    layers = _stack(folder, plan, contents)
    with mounter(layers, folder + b"/m") as mounted:
        names = _names(mounted.root + b"/d", plan)
        if plan.kind == "upper":
            for (name, *_), content in zip(names, contents, strict=True):
                _make(name, content)
        child = in_child(names, contents, ops)
    if child.failure is None:
        digests: list[str | None] = child.answer["digests"]
        with mounter(layers, folder + b"/m") as mounted:
            after = _names(mounted.root + b"/d", plan)
            what = _compare(after, digests) or _touched(layers, plan, contents)
        if what is not None:
            return Outcome(Failure(what, len(ops)), child.answer["done"])
    return Outcome(child.failure, child.answer["done"])


def on_directory(folder: bytes, plan: Plan, ops: Sequence[Op]) -> Outcome:
    """The same in a plain directory, where a difference is the model's mistake."""
    os.makedirs(folder + b"/d")
    names = _names(folder + b"/d", plan)
    for (first, *others), content in zip(names, plan.contents(), strict=True):
        _make(first, content)
        for other in others:
            os.link(first, other)
    child = in_child(names, plan.contents(), ops)
    subprocess.run(["rm", "-rf", "--", folder], check=True)
    return Outcome(child.failure, child.answer["done"])


def _stack(folder: bytes, plan: Plan, contents: list[bytes]) -> Layers:
    """Make the layers; holes are made as holes."""
    entries: list[Entry] = [Dir(b"d")]
    for number, content in enumerate(contents if plan.kind != "upper" else ()):
        data = content.lstrip(b"\0")
        hole = len(content) - len(data)
        entries.append(File(b"d/f%d" % number, data or b"\0", len(data), hole=hole))
        if plan.kind == "linked":
            entries.append(Link(b"d/g%d" % number, b"d/f%d" % number))
    layers = build_stack(folder, [entries, [Dir(b"d")]])
    if plan.kind == "metacopy":
        _leave_metacopies(layers, folder + b"/kernel", plan.files)
    return layers


def _leave_metacopies(layers: Layers, target: bytes, files: int) -> None:
    os.mkdir(target)
    options = layers.options() + b",metacopy=on,redirect_dir=on,index=on,xino=on"
    kernel.mount(b"overlay", target, b"overlay", 0, options)
    for number in range(files):
        os.chmod(target + b"/d/f%d" % number, 0o640)
    kernel.umount(target)


def _names(folder: bytes, plan: Plan) -> list[list[bytes]]:
    letters = b"fg" if plan.kind == "linked" else b"f"
    return [[folder + b"/%c%d" % (c, n) for c in letters] for n in range(plan.files)]


def _make(name: bytes, content: bytes) -> None:
    with open(name, "wb") as file:
        file.write(content)


def _compare(names: list[list[bytes]], digests: list[str | None]) -> str | None:
    """Return what a mount shows differently from the digests, None for nothing."""
    for each, digest in zip(names, digests, strict=True):
        for name in each:
            there = os.path.lexists(name)
            if there != (digest is not None):
                return f"after a remount {name!r} is {'' if there else 'not '}there"
            if there and hashlib.sha256(read(name)).hexdigest() != digest:
                return f"after a remount {name!r} has another content"
    return None


def _touched(layers: Layers, plan: Plan, contents: list[bytes]) -> str | None:
    for number, content in enumerate(contents if plan.kind != "upper" else ()):
        if read(layers.lowers[-1] + b"/d/f%d" % number) != content:
            return f"file {number} of the layer was written to"
    return None


@dataclass(frozen=True)
class _Child:
    failure: Failure | None
    answer: dict


def in_child(names: list[list[bytes]], contents: list[bytes], ops: Sequence[Op]) -> _Child:
    """Perform *ops* in a child of this process; say what it found, or what it died of."""
    progress = mmap.mmap(-1, 8)  # shared with the child
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _be_child(names, contents, ops, progress, theirs)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    at = struct.unpack("q", progress[:])[0]
    progress.close()
    if status:
        return _Child(Failure(f"the child ended with status {status}", at), {"done": {}})
    answer = json.loads(text)
    what = answer["failure"]
    return _Child(None if what is None else Failure(what, at), answer)


def _be_child(
    names: list[list[bytes]],
    contents: list[bytes],
    ops: Sequence[Op],
    progress: mmap.mmap,
    theirs: int,
) -> None:
    """Perform, answer and leave at once."""
    faulthandler.disable()  # a SIGBUS is an answer, and the parent's to tell
    pairs = zip(names, contents, strict=True)
    exerciser = Exerciser([Subject(list(each), content) for each, content in pairs])
    what, digests = None, []
    try:
        for number, op in enumerate(ops):
            struct.pack_into("q", progress, 0, number)
            exerciser.perform(op)
        struct.pack_into("q", progress, 0, len(ops))
        digests = exerciser.finish()
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
    answer = {"failure": what, "digests": digests, "done": exerciser.done}
    os.write(theirs, json.dumps(answer).encode())
    os._exit(0)


def shrink(ops: Sequence[Op], fails: Callable[[Sequence[Op]], Failure | None]) -> list[Op]:
    """Return a part of *ops* that still fails, as short as a bounded search finds it."""
    ops, tries = list(ops), 0
    size = len(ops)
    while size >= 1 and tries < _TRIES:
        size = min(size, max(len(ops) // 2, 1))
        start, shorter = 0, False
        while start < len(ops) and tries < _TRIES:
            rest = ops[:start] + ops[start + size :]
            tries += 1
            failure = fails(rest) if rest else None
            if failure is None:
                start += size
            else:
                ops, shorter = rest[: failure.at + 1], True
        if not shorter:
            size //= 2
    return ops

"""Somebody who uses a store for a while, and whose commands are killed now and then.

``python -m tests.support.crowd ROOT SOURCES NAME SEED SECONDS`` runs commands at random, each in a
process of its own, and prints one JSON document: what it had in the end (``Had``), how often each
command succeeded or was killed, and what failed though nobody was in its way. Several may use one
store: the images of all share layers, and each gives its images and containers names of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = -signal.SIGKILL
# What the commands import, so that their processes need not: most of their time would be that.
_USED = (
    "cli.commands",
    "cli.progress",
    "image.importer",
    "image.verify",
    "container.check",
    "container.commit",
    "container.images",
    "container.mount",
    "container.remove",
    "container.state",
    "container.umount",
    "container.usage",
    "daemon.serve",
    "fuse.session",
)
_LONGEST = 0.25  # seconds after which what is to be killed is, at the latest
_SHARE = 0.25  # of the commands
_LEAST = 2  # that were killed: on a busy machine a few seconds may have too few
# What another's image with the same layers, or one's own killed command, may rightly bring about.
_IN_THE_WAY = ("is used by container", "mounted", "is being removed from its store", "in use")


class Somebody:
    """One user: the names that he gave, and what he knows of each."""

    def __init__(self, root: str, sources: list[str], name: str, seed: int) -> None:
        self.images: set[str] = set()
        self.containers: dict[str, str | None] = {}  # what the file `note` says, if that is known
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._root = root
        self._sources = sources
        self._name = name
        self._random = random.Random(seed)
        self._serial = 0

    def run(self, seconds: float) -> None:
        """Do something again and again, and until some of it was killed, if that comes about."""
        acts: list[tuple[int, Callable[[], None]]] = [
            (4, self._import),
            (4, self._create),
            (4, self._change),
            (2, self._commit),
            (3, self._remove_image),
            (2, self._remove_container),
            (2, lambda: self._other("gc")),
            (1, lambda: self._other("gc", "--blobs")),
            (1, lambda: self._other("df")),
            (1, self._check),
            (1, self._verify),
            (1, self._tag),
        ]
        end = time.monotonic() + seconds
        while time.monotonic() < end or (
            self._killed() < _LEAST and time.monotonic() < end + 3 * seconds
        ):
            self._random.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()

    def _killed(self) -> int:
        return sum(n for what, n in self.counts.items() if what.endswith("killed"))

    def _import(self) -> None:
        name = self._fresh("image")
        source = self._random.choice(self._sources)
        self._make(self.images, name, "image", "import", source, "--name", name)

    def _check(self) -> None:
        """Nothing is wrong, but for what those who were killed may have left just now."""
        status, said = self._start("--json", "check", killed_after=None)
        document = json.loads(said)
        faults = [one for one in document["findings"] if not one["harmless"]]
        if status not in (0, 4) or any(one["says"] != "nothing refers to it" for one in faults):
            self.wrong.append(f"check: {status}: {said}")

    def _verify(self) -> None:
        if self.images:
            self._call("image", "verify", self._any_image())

    def _tag(self) -> None:
        if self.images:
            name = self._fresh("image")
            self._make(self.images, name, "image", "tag", self._any_image(), name)

    def _commit(self) -> None:
        if self.containers:
            name = self._fresh("image")
            container = self._random.choice(sorted(self.containers))
            self._make(self.images, name, "commit", container, name)

    def _make(self, into: set[str], name: str, *words: str) -> None:
        status = self._call(*words)
        if status == 0 or (status == KILLED and self._is_there("image", "inspect", name)):
            into.add(name)

    def _create(self) -> None:
        if self.images:
            name = self._fresh("container")
            status = self._call("create", self._any_image(), "--name", name)
            if status == 0 or (status == KILLED and self._is_there("inspect", name)):
                self.containers[name] = None

    def _change(self) -> None:
        """Mount a container, look whether it is as it was left, change it, unmount it."""
        if not self.containers:
            return
        name = self._random.choice(sorted(self.containers))
        identity = json.loads(self._say("--json", "inspect", name))["id"]
        if self._call("mount", name) == 0:
            note = Path(self._root, "containers", identity, "merged/note")
            before = self.containers[name]
            if before is not None and note.read_text() != before:
                self.wrong.append(f"{name} says {note.read_text()!r}, not {before!r}")
            self._serial += 1
            note.write_text(f"{name} {self._serial}")
            self.containers[name] = f"{name} {self._serial}"
        self._say("umount", name)

    def _remove_image(self) -> None:
        if self.images:
            name = self._any_image()
            status = self._call("image", "rm", name)
            if status == 0 or (status == KILLED and not self._is_there("image", "inspect", name)):
                self.images.remove(name)

    def _remove_container(self) -> None:
        if self.containers:
            name = self._random.choice(sorted(self.containers))
            status = self._call("rm", name)
            if status == 0 or (status == KILLED and not self._is_there("inspect", name)):
                del self.containers[name]

    def _other(self, *words: str) -> None:
        self._call(*words)

    def _any_image(self) -> str:
        return self._random.choice(sorted(self.images))

    def _fresh(self, kind: str) -> str:
        self._serial += 1
        return f"{self._name}-{kind}-{self._serial}"

    def _is_there(self, *words: str) -> bool:
        return self._start(*words, killed_after=None)[0] == 0

    def _say(self, *words: str) -> str:
        return self._start(*words, killed_after=None)[1]

    def _call(self, *words: str) -> int:
        """Run a command, which is killed maybe; note what became of it. Return its status."""
        kill = self._random.random() < _SHARE
        after = self._random.uniform(0, _LONGEST) if kill else None
        status, said = self._start(*words, killed_after=after)
        what = {0: "done", KILLED: "killed"}.get(status, "failed")
        self.counts[f"{' '.join(words[: 2 if words[0] == 'image' else 1])}: {what}"] += 1
        if what == "failed" and not any(reason in said for reason in _IN_THE_WAY):
            self.wrong.append(f"{' '.join(words)}: {status}: {said}")
        return status

    def _start(self, *words: str, killed_after: float | None) -> tuple[int, str]:
        """Run a command in a child; return its status and what it said."""
        with tempfile.TemporaryFile() as out:
            pid = os.fork()
            if not pid:
                _become(self._root, words, out.fileno())
            if killed_after is not None:
                time.sleep(killed_after)  # at any moment of its life
                os.kill(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            out.seek(0)
            return status, out.read().decode(errors="replace")


def _become(root: str, words: tuple[str, ...], out: int) -> None:
    """Be the command; never returns."""
    from unionfs.cli.main import main

    status = 70
    try:
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        status = main(["unionfs", "--root", root, *words])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def had(somebody: Somebody) -> dict[str, Any]:
    """What is printed."""
    return {
        "images": sorted(somebody.images),
        "containers": somebody.containers,
        "counts": somebody.counts,
        "wrong": somebody.wrong,
    }


def main() -> None:
    """Be one of several."""
    root, sources, name, seed, seconds = sys.argv[1:]
    for module in _USED:
        importlib.import_module(f"unionfs.{module}")
    somebody = Somebody(root, sources.split(","), name, int(seed))
    somebody.run(float(seconds))
    print(json.dumps(had(somebody)))


if __name__ == "__main__":
    main()

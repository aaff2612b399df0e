"""Many processes on one store, some of them killed: nothing that succeeded is lost.

For minutes, and with another seed each time, under HYPOTHESIS_PROFILE=full.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import REPO, Cli
from tests.support.examples import FULL
from tests.support.fixtures import arena as arena
from tests.support.fixtures import scratch as scratch
from tests.support.images import Layout, docker_archive
from tests.support.tars import dir_, file, tar

pytestmark = pytest.mark.needs_fuse

SECONDS = 120.0 if FULL else 4.0
PEOPLE = 6 if FULL else 4


@pytest.fixture
def own(scratch: bytes) -> Iterator[Cli]:
    """A store where syncing costs nothing, if that is possible: more happens in the time."""
    cli = Cli(Path(os.fsdecode(scratch)) / "store")
    yield cli
    cli.tidy()


def sources(place: Path) -> list[str]:
    """Images of which any two share layers, compressed and not, one with a fix-up."""
    noise = random.Random(7)
    layers = [
        tar(
            dir_("usr", mode=0o711),
            file(f"usr/{n}-large", noise.randbytes(100_000)),
            *(file(f"usr/{n}-{m}", b"%d" % m) for m in range(150)),  # so that storing takes a while
        )
        for n in range(9)
    ]
    layers.append(tar(file("usr/loose", b"loose")))
    found = []
    groups = [0, 1, 2, 3, 9], [1, 4, 5], [0, 2, 4, 9], [6, 7, 0], [7, 8, 3, 5], [8, 6]
    for number, group in enumerate(groups):
        chosen = [layers[n] for n in group]
        layout = Layout(place / f"layout{number}")
        layout.index(layout.image(chosen))
        (place / f"archive{number}").write_bytes(docker_archive(chosen))
        found += [f"oci:{layout.path}", f"docker-archive:{place}/archive{number}"]
    return found


def test_nothing_that_succeeded_is_missing(own: Cli, tmp_path: Path) -> None:
    seed = time.time_ns() if FULL else 1
    words = [sys.executable, "-m", "tests.support.crowd", str(own.root)]
    given = ",".join(sources(tmp_path))
    crowd = [
        subprocess.Popen(
            [*words, given, f"p{n}", str(seed + n), str(SECONDS)],
            cwd=REPO,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(PEOPLE)
    ]
    people = [json.loads(one.communicate(timeout=SECONDS * 4 + 120)[0]) for one in crowd]
    counts = sum((Counter(one["counts"]) for one in people), Counter[str]())
    print(f"seed {seed}: {dict(sorted(counts.items()))}")
    assert "\n".join(wrong for one in people for wrong in one["wrong"]) == ""
    assert sum(n for what, n in counts.items() if what.endswith("killed")) > PEOPLE
    names = {name for image in own.json("image", "ls") for name in image["names"]}
    containers = {one["name"]: one["id"] for one in own.json("ls")}
    for one in people:
        assert {f"{name}:latest" for name in one["images"]} <= names
        assert one["containers"].keys() <= containers.keys()
        for name, note in one["containers"].items():
            path = own.root / "containers" / containers[name] / "upper/note"
            if note:
                assert path.read_text() == note
    own.json("gc")
    own("check")
    own("image", "verify")
    assert list((own.root / "tmp").iterdir()) == []
    assert os.listdir(own.root / "locks") == []

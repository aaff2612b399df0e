"""`make bench-podman`, as far as a small image shows it: every step runs, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engine_images import Images
from tests.support.engines import REPO
from tests.support.examples import FULL
from unionfs.syscalls.mount import mount_table

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

STEPS = 9


def bench(cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "scripts.bench.podman", *words]
    env = {**os.environ, "UNIONFS_CACHE": str(cache)}
    return subprocess.run(
        program, cwd=REPO, env=env, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize(
    "who",
    [pytest.param([], id="root"), *([pytest.param(["--user"], id="rootless")] if FULL else [])],
)
def test_every_step_is_timed_and_nothing_is_left(images: Images, tmp_path: Path, who: list[str]):
    """In a cache with a name that Podman takes into no image's."""
    cache = tmp_path / ".cache"
    packed = cache / "image"
    cache.mkdir()
    copy = ["skopeo", "copy", "--quiet", f"oci-archive:{images.tiny}", f"oci:{packed}:tiny"]
    subprocess.run(copy, check=True)
    image = ("--image", f"oci:{packed}", "--unpacked", "20", *who)
    done = bench(cache, *image, "--runs", "1", "--contenders", "unionfs")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("rootless" in done.stdout) == bool(who)
    rows = done.stdout.splitlines()[-STEPS:]
    assert rows[0].startswith("run-true") and rows[-1].startswith("rmi")
    assert all(float(row.split()[2]) > 0 for row in rows)
    assert os.listdir(cache / "bench") == []
    assert not [entry for entry in mount_table() if os.fsencode(tmp_path) in entry.target]


def test_a_source_that_is_not_there_is_named(tmp_path: Path):
    done = bench(tmp_path, "--image", "oci:/nowhere", "--contenders", "unionfs")
    assert done.returncode == 1
    assert done.stderr.startswith("bench: podman pull: ") and "/nowhere" in done.stderr
    assert os.listdir(tmp_path / "bench") == []

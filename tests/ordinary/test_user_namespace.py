"""The mounts' own tests again in a user namespace, as rootless engines have it: ``user.overlay.*``.

Each module by a pytest of its own in there, as root of 65,536 subordinate IDs. What compares with
the kernel's overlayfs is left out, which refuses there half of what is compared.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.examples import FULL
from tests.support.ordinary import SUBORDINATE, User

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_SMALL = ("test_callers", "test_links", "test_directories")
_MORE = ("test_coherence", "test_rename_flags", "test_attributes", "test_databases")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("module", _SMALL + _MORE * FULL)
def test_again(user: User, tmp_path: Path, module: str) -> None:
    place = user.home.parent / f"userns-{module}"
    place.mkdir()
    os.chown(place, SUBORDINATE, SUBORDINATE)
    inside = [user.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    inside += ["-m", "not needs_kernel_overlay", "--basetemp", str(place / "tmp")]
    env = {**user.env, "UNIONFS_TEST_USERNS": "1", "TMPDIR": str(place), "HOME": str(place)}
    env["HYPOTHESIS_PROFILE"] = os.environ.get("HYPOTHESIS_PROFILE", "default")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.userns", str(SUBORDINATE), *inside]
        + [f"tests/mount/{module}.py"],
        cwd=user.env["PYTHONPATH"].split(":")[0],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout

"""The mounts' own tests again in a user namespace, as rootless engines have it: ``user.overlay.*``.

Each module by a pytest of its own in there, as root of 65,536 subordinate IDs. What compares with
the kernel's overlayfs is left out, which refuses there half of what is compared, and what needs a
disk of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.examples import FULL, TIMEOUT
from tests.support.ordinary import SUBORDINATE, User

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_SMALL = ("test_callers",)
_MORE = (
    "test_links", "test_directories", "test_coherence", "test_rename_flags", "test_attributes",
    "test_identity", "test_identity_links", "test_identity_open", "test_identity_tools",
    "test_side_by_side", "test_whole_trees", "storms/test_listing", "storms/test_copy_up",
    "data/both/test_mapping", "data/both/test_racing", "data/both/test_fsx",
    "storms/test_stress_ng",
)  # fmt: skip
# What cannot be had in there, by name.
_NOT_THERE = {
    "test_callers": ["test_devices_work_only_with_dev"],  # no device can be made
    "test_attributes": [  # nor trusted.* attributes
        "test_times_to_the_nanosecond[/null]",
        "test_now_and_omit[/null]",
        "test_device_numbers_and_kinds",
        "test_special_files_take_trusted_but_not_user",
        "test_a_driver_like_name_is_only_a_name",
    ],
}


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("module", _SMALL + _MORE * FULL)
def test_again(user: User, tmp_path: Path, module: str) -> None:
    place = user.home.parent / f"userns-{module.replace('/', '-')}"
    place.mkdir()
    os.chown(place, SUBORDINATE, SUBORDINATE)
    inside = [user.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    left_out = ["needs_kernel_overlay", "needs_loop"]
    if user.env["UNIONFS_PURE"] == "1":
        left_out.append("needs_extension")
    inside += ["-m", " and ".join(f"not {name}" for name in left_out)]
    inside += ["--basetemp", str(place / "tmp")]
    env = {**user.env, "UNIONFS_TEST_USERNS": "1", "TMPDIR": str(place), "HOME": str(place)}
    env["HYPOTHESIS_PROFILE"] = os.environ.get("HYPOTHESIS_PROFILE", "default")
    for name in _NOT_THERE.get(module, ()):
        inside += ["--deselect", f"tests/mount/{module}.py::{name}"]
    words = [sys.executable, "-m", "tests.support.userns", str(SUBORDINATE), *inside]
    done = subprocess.run(
        [*words, f"tests/mount/{module}.py"],
        cwd=user.env["PYTHONPATH"].split(":")[0],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout

"""Modules of ``tests/mount`` again, by a pytest of its own that is not the machine's root's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.support.examples import FULL
from tests.support.ordinary import GID, UID, User


def module_path(part: str) -> str:
    """Return the path in the project of *part*, of ``tests/mount`` unless it says otherwise."""
    return part if part.startswith("tests/") else f"tests/mount/{part}"


def run_again(
    user: User,
    place: Path,
    words: Sequence[str],
    *,
    left_out: Iterable[Mapping[str, Iterable[str]]],
    env: Mapping[str, str],
    prefix: Sequence[str] = (),
) -> None:
    """Run pytest with *words* and files in *place*; fail if it does, or skips anything.

    *left_out*: names of tests by module. *prefix*: a program that root runs it by; without one it
    is the user who runs it.
    """
    markers = ["needs_kernel_overlay", "needs_loop"]
    if user.env["UNIONFS_PURE"] == "1":
        markers.append("needs_extension")
    pytest = [user.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    pytest += ["-m", " and ".join(f"not {name}" for name in markers)]
    pytest += ["--basetemp", str(place / "tmp"), *(["--timeout=3600"] if FULL else [])]
    for module, names in (item for some in left_out for item in some.items()):
        for name in names:
            pytest += ["--deselect", module_path(f"{module}.py::{name}")]
    done = subprocess.run(
        [*prefix, *pytest],
        cwd=user.env["PYTHONPATH"].split(":")[0],
        env={**user.env, "TMPDIR": str(place), "HOME": str(place), **env},
        capture_output=True,
        text=True,
        check=False,
        **({} if prefix else {"user": UID, "group": GID, "extra_groups": []}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout

"""The package is built where there is no compiler: in Python alone, and says that it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
_ABSENT = "no-such-compiler"
_BUILD = (
    "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"  # pip's
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the wheel, and what the build said."""
    place = tmp_path_factory.mktemp("no-compiler")
    sources, out, programs = place / "sources", place / "out", place / "programs"
    programs.mkdir()
    compiled = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(REPO / "unionfs", sources / "unionfs", ignore=compiled)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPO / name, sources)
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, out],
        cwd=sources,
        env={"PATH": str(programs), "CC": _ABSENT, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    return next(out.iterdir()), done.stdout + done.stderr


def test_it_says_what_it_does_without(built: tuple[Path, str]) -> None:
    said = [line.strip() for line in built[1].splitlines()]
    assert [line for line in said if line.startswith("unionfs: ")] == [
        f"unionfs: without a client in C: [Errno 2] No such file or directory: '{_ABSENT}'"
    ]
    failed = 'warning: build_ext: building extension "unionfs.fuse._native" failed'
    assert len([line for line in said if line.startswith(failed)]) == 1


def test_there_is_nothing_half_made(built: tuple[Path, str]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        inside = set(wheel.namelist())
    modules = {str(path.relative_to(REPO)) for path in (REPO / "unionfs").rglob("*.py")}
    assert modules <= inside
    kinds = {os.path.splitext(name)[1] for name in inside if ".dist-info/" not in name}
    assert kinds == {".py", ".css", ".html", ".js", ""}
    assert [name for name in inside if "/scripts/" in name] == [
        "unionfs-0.1.0.data/scripts/unionfs"
    ]


def test_both_commands_run(built: tuple[Path, str], tmp_path: Path) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(tmp_path)
    programs = {
        "unionfs": [next(tmp_path.glob("*.data/scripts/unionfs"))],
        "unionfs-python": ["-c", "from unionfs.cli.main import entry; entry()"],
    }
    said = {
        subprocess.run(
            [sys.executable, *words, "--version"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for words in programs.values()
    }
    assert len(said) == 1 and said.pop().startswith("unionfs 0.1.0")

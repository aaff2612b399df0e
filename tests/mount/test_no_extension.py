"""A package whose C extension was not built, or was built from other sources than Python's.

What such a mount cannot do is in the parity tables; here it is seen that there is one.
"""

from __future__ import annotations

import os
import shutil
import sys

import pytest

import unionfs
from tests.support.extension import stats
from tests.support.files import read, write
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from unionfs.cli.main import entry
sys.argv[0] = "unionfs"
entry()
"""


@pytest.fixture
def package(scratch: bytes) -> str:
    """Return a directory with this package as its sources are: nothing in it was compiled."""
    top = os.path.join(os.fsdecode(scratch), "python")
    compiled = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(os.path.dirname(unionfs.__file__), f"{top}/unionfs", ignore=compiled)
    return top


def _not_built(package: str) -> None:
    """Leave it as it is after a build without a compiler (``optional`` in pyproject.toml)."""


def _other_version(package: str) -> None:
    with open(f"{package}/unionfs/fuse/_native.py", "w", encoding="ascii") as file:
        file.write("VERSION = -1\n")


def _cannot_be_loaded(package: str) -> None:
    with open(f"{package}/unionfs/fuse/_native.abi3.so", "wb") as file:
        file.write(b"\x7fELF, but built for another machine")


@pytest.mark.parametrize("make", [_not_built, _other_version, _cannot_be_loaded])
def test_a_mount_does_without_it(scratch, union, package, make):
    make(package)
    program = [sys.executable, "-c", _PROGRAM, package]
    layers = build_stack(scratch + b"/s", [[File(b"d/f", b"x", 10)]])
    root = union(layers, program=program, env={"UNIONFS_PURE": ""}).root
    write(root + b"/d/f", b"new")
    os.rename(root + b"/d", root + b"/e")
    assert read(root + b"/e/f") == b"new"
    modes = stats(root)["modes"]
    assert {mode["mode"]: mode["is"] for mode in modes}["extension"] == "not used"

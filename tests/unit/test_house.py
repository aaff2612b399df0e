"""The package keeps to the table of rooms, and the checker of that table finds what breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.house import MAX_LINES, ROOMS, broken_rules, too_long

REPO = str(Path(__file__).parents[2])


def test_the_rooms_import_only_what_the_table_allows() -> None:
    assert broken_rules(REPO) == []


def test_no_file_is_too_long_to_read() -> None:
    assert too_long(REPO, "unionfs", "tests", "scripts") == []


def test_the_table_has_one_direction() -> None:
    order = list(ROOMS)
    for room, allowed in ROOMS.items():
        for other in allowed:
            assert order.index(other.partition(".")[0]) < order.index(room), (room, other)


def _write(root: Path, path: str, text: str) -> str:
    file = root / "unionfs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("union/a.py", "import unionfs.fuse.session", "union.a may not import unionfs.fuse.s"),
        ("union/a.py", "from unionfs import fuse", "union.a may not import unionfs.fuse"),
        ("union/a.py", "def f():\n    import trio", ":2: union.a may not import the library trio"),
        ("union/a.py", "from .b import c", "relative import .b.c"),
        ("upper/a.py", "from os import x\nimport pyfuse3.asyncio", ":2: upper.a may not import"),
        ("ondisk/a.py", "import ctypes", "ondisk.a may not import the library ctypes"),
        ("syscalls/at.py", "import xattr", "syscalls.at may not import the library xattr"),
        ("container/a.py", "from unionfs.daemon import serve", "may not import unionfs.daemon.s"),
        ("container/a.py", "from unionfs.cli import main", "may not import unionfs.cli.main"),
        ("cli/image.py", "import trio", "cli.image may not import the library trio"),
        ("attic/a.py", "import unionfs.errors", "attic is no room"),
        ("errors.py", "import unionfs.digest", "errors may not import unionfs.digest"),
        ("__init__.py", "from unionfs.cli import main", "__init__ may not import"),
    ],
)
def test_the_checker_finds(tmp_path: Path, path: str, text: str, complaint: str) -> None:
    broken = broken_rules(_write(tmp_path, path, text))
    assert len(broken) == 1
    assert complaint in broken[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("union/a.py", "from unionfs.union.b import c\nfrom unionfs.ondisk import marks"),
        ("fuse/a.py", "import pyfuse3\nimport trio\nfrom unionfs.upper.x import y"),
        ("syscalls/xattr.py", "import xattr\nimport ctypes"),
        (
            "container/a.py",
            "from unionfs.daemon.client import unmount\nfrom unionfs.errors import X",
        ),
        ("cli/main.py", "import trio\nfrom unionfs.container import run"),
        ("cli/version.py", "from unionfs import __version__"),
        ("__main__.py", "from unionfs.cli.main import entry"),
        ("daemon/__init__.py", "from unionfs.fuse.session import Session"),
    ],
)
def test_the_checker_allows(tmp_path: Path, path: str, text: str) -> None:
    assert broken_rules(_write(tmp_path, path, text)) == []


def test_the_checker_finds_a_long_file(tmp_path: Path) -> None:
    root = _write(tmp_path, "a.py", "x = 1\n" * (MAX_LINES + 1))
    _write(tmp_path, "b.py", "x = 1\n" * MAX_LINES)
    assert too_long(root, "unionfs") == [f"unionfs/a.py: {MAX_LINES + 1} lines, at most 400"]

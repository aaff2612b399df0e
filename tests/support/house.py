"""The rules of the house: which room of the package may import what, and how long a file may be.

The sources are read, not imported, so that an import inside a function counts as well.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from typing import NamedTuple

PACKAGE = "unionfs"
MAX_LINES = 400

# A room's own modules are always open to it. The rooms every other may use stand first, so each
# row names only rooms above it and the whole has one direction.
_BASE = {"errors", "digest", "syscalls"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "digest": {"errors"},
    "syscalls": {"errors"},
    "ondisk": {"errors", "syscalls"},
    "options": {"errors"},
    "union": {*_BASE, "ondisk"},
    "upper": {*_BASE, "ondisk", "union"},
    "tarball": {*_BASE, "ondisk"},
    "store": {*_BASE, "ondisk", "tarball"},
    "image": {*_BASE, "ondisk", "tarball", "store"},
    "inspect": {*_BASE, "ondisk", "union"},
    "fuse": {*_BASE, "ondisk", "options", "union", "upper", "inspect"},
    "daemon": {*_BASE, "options", "inspect", "fuse"},
    # The daemon's client side only: what serves runs in another process.
    "container": {
        *_BASE, "ondisk", "options", "union", "upper", "tarball", "store", "image",
        "inspect", "daemon.client", "daemon.mappings", "daemon.spawn", "daemon.writers",
    },
}  # fmt: skip
ROOMS["cli"] = set(ROOMS)
ROOMS["__main__"] = {"cli.main"}
ROOMS["__init__"] = set()

# Libraries that only these modules (or all modules of these rooms) may import.
LIBRARIES: dict[str, set[str]] = {
    "pyfuse3": {"fuse", "daemon"},
    "trio": {"fuse", "daemon", "cli.main"},
    "ctypes": {"syscalls"},
    "xattr": {"syscalls.xattr"},
    # What only one command needs, and takes long to import.
    "jinja2": {"cli.report"},
    "markupsafe": {"cli.report"},
    "textual": {"cli.browser"},
}


class Import(NamedTuple):
    """One import statement: where it stands and the dotted name that it asks for."""

    path: str
    line: int
    name: str


def broken_rules(root: str) -> list[str]:
    """Return a line for every import below *root*'s package that the table does not allow."""
    found = []
    for path in python_files(os.path.join(root, PACKAGE)):
        module = _module(os.path.relpath(path, root))
        for statement in _imports(path):
            if reason := _judge(module, statement.name):
                where = f"{os.path.relpath(path, root)}:{statement.line}"
                found.append(f"{where}: {reason}")
    return found


def too_long(root: str, *directories: str) -> list[str]:
    """Return a line for every Python file in *directories* with more than MAX_LINES lines."""
    found = []
    for path in (p for d in directories for p in python_files(os.path.join(root, d))):
        with open(path, "rb") as file:
            lines = sum(1 for _ in file)
        if lines > MAX_LINES:
            found.append(f"{os.path.relpath(path, root)}: {lines} lines, at most {MAX_LINES}")
    return found


def python_files(top: str) -> Iterator[str]:
    """Yield the paths of the Python files below *top*, in a steady order."""
    for directory, subdirectories, names in os.walk(top):
        subdirectories.sort()
        yield from (os.path.join(directory, n) for n in sorted(names) if n.endswith(".py"))


def _module(path: str) -> str:
    """``unionfs/daemon/client.py`` is ``daemon.client``, ``unionfs/daemon/__init__.py`` is its
    room, and the package's own ``__init__.py`` keeps its name."""
    parts = path.removesuffix(".py").split(os.sep)[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _imports(path: str) -> Iterator[Import]:
    with open(path, "rb") as file:
        tree = ast.parse(file.read(), path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(path, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            # `from unionfs.daemon import client` asks for unionfs.daemon.client.
            yield from (Import(path, node.lineno, f"{base}.{alias.name}") for alias in node.names)


def _judge(module: str, name: str) -> str | None:
    """Say what is wrong with *module* importing *name*; None when it is allowed."""
    if name.startswith("."):
        return f"relative import {name}: write the whole name"
    top, _, inner = name.partition(".")
    if top != PACKAGE:
        allowed = LIBRARIES.get(top)
        wrong = allowed is not None and not _within(module, allowed)
        return f"{module} may not import the library {top}" if wrong else None
    room = module.partition(".")[0]
    if room not in ROOMS:
        return f"{room} is no room of the house: add it to the table"
    if _within(inner, {room, *ROOMS[room]}) or inner.startswith("__"):
        return None
    return f"{module} may not import {name}"


def _within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)

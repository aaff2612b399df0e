"""Arguments that are chosen when an operation is about to be done, among what is there then.

A random path nearly never exists. A ``Pick`` says what kind of path is wanted and which one of
those, counted round; the shown and repeated example holds the path itself.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from tests.support.ops import HANDLE_OPERATIONS, Op, World

NAMES = (b"a", b"b", b"c", b"d")
ODD_NAMES = (b"\xff\xfe", b"n" * 255, b"sp ce,:\\", b"m" * 256)


class Pick(NamedTuple):
    """A path of *kind*: file, dir, other, any (all that exist), fresh, below (no directory)."""

    kind: str
    number: int


def resolve(op: Op, world: World) -> Op:
    """Return *op* with its picks chosen in the tree of *world*, and its slot among the open ones.

    An operation on a descriptor while none is open opens a file instead.
    """
    if op.name in HANDLE_OPERATIONS and op.args[0] not in world.handles:
        slot = min(world.handles, default=None)
        if slot is None:
            op = Op(
                "open", (op.args[0], Pick("file", len(op.name) + op.args[0]), os.O_RDWR), op.uid
            )
        else:
            op = op._replace(args=(slot, *op.args[1:]))
    if not any(isinstance(one, Pick) for one in op.args):
        return op
    there = _Tree(world.root)
    args = tuple(there.choose(one) if isinstance(one, Pick) else one for one in op.args)
    return op._replace(args=args)


class _Tree:
    def __init__(self, root: bytes) -> None:
        self.paths: dict[str, list[bytes]] = {"file": [], "dir": [], "other": []}
        self._walk(root, b"")
        self.paths["any"] = sorted(path for paths in self.paths.values() for path in paths)

    def _walk(self, folder: bytes, prefix: bytes) -> None:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                self.paths["dir"].append(path)
                self._walk(entry.path, path + b"/")
            else:
                mode = entry.stat(follow_symlinks=False).st_mode
                self.paths["file" if stat.S_ISREG(mode) else "other"].append(path)

    def choose(self, pick: Pick) -> bytes:
        if pick.kind == "fresh":
            return self._fresh(pick.number)
        if pick.kind == "below":
            files = self.paths["file"] + self.paths["other"] + [b"missing"]
            return files[pick.number % len(files)] + b"/a"
        paths = self.paths[pick.kind] or self.paths["any"] or [b"a"]
        return paths[pick.number % len(paths)]

    def _fresh(self, number: int) -> bytes:
        """Return a name that is not there, in the root or one of the directories."""
        folders = [b"", *(path + b"/" for path in self.paths["dir"])]
        folder = folders[number % len(folders)]
        number //= len(folders)
        taken = set(self.paths["any"])
        free = [folder + name for name in NAMES if folder + name not in taken]
        if number % 10 == 9 or not free:
            return folder + ODD_NAMES[number % len(ODD_NAMES)]
        return free[number % len(free)]

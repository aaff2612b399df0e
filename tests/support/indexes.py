"""Merged indexes of lowers (``unionfs.union.merged``) for mounts: right, partial and damaged ones.

The spawner's, who imports the daemon's libraries, but only when it is asked for one.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
from contextlib import closing

from unionfs.inspect.stack import Source, Stack, called
from unionfs.options import MountConfig
from unionfs.union.merged import NotIndexableError, write
from unionfs.union.stack import flavour_of

_HEAD = struct.Struct("<HBI")
_PART, _COLUMNS, _BORN, _KIND = 2, 80, 8, 2  # bytes: of a directory's layer, and of each name


def write_index(config: MountConfig, path: bytes) -> bytes | None:
    """Write the index of the lowers of *config* to *path*; return that, None if none can be."""
    flavour = flavour_of(config.userxattr)
    source = Source("", called(config.lowerdirs, ()), flavour=flavour, aufs=config.aufs)
    if os.path.exists(path):
        os.unlink(path)
    try:
        with Stack(source) as stack:
            write(os.fsdecode(path), stack.tree)
    except NotIndexableError:
        return None
    return path


def disown(index: bytes) -> None:
    """Let *index* be from where owners are others: files are asked for their attributes then."""
    with closing(sqlite3.connect(os.fsdecode(index))) as rows, rows:
        rows.execute("UPDATE about SET owners = x'00'")


def mistake(index: bytes, folder: bytes, name: bytes) -> None:
    """Let *index* say that the directory *name* in *folder* is a file, and not what it holds.

    As one that is damaged; its mode is still a directory's.
    """
    with closing(sqlite3.connect(os.fsdecode(index))) as rows, rows:
        ((row,),) = rows.execute("SELECT content FROM directories WHERE path = ?", (folder,))
        depth, _, count = _HEAD.unpack_from(row)
        born = _HEAD.size + _PART * depth
        names = row[born + _COLUMNS * count :].split(b"\0")
        at = born + _BORN * count + _KIND * names.index(name)
        row = row[:at] + struct.pack("<H", stat.S_IFREG) + row[at + _KIND :]
        rows.execute("UPDATE directories SET content = ? WHERE path = ?", (row, folder))
        rows.execute("DELETE FROM directories WHERE path = ?", (folder + b"/" + name,))

"""The merged index of an image: what its layers show together, read at once whatever their number.

Layers of a store do not change, so what they show together can be written down when an image comes
into the store. A mount that has it never scans a lower directory, nor looks at its marks: of a
stack of a hundred layers a listing costs one read instead of a hundred. Nor does a look at a file
touch its layer: the attributes are written down, too. Content is the layers' own, and a copy-up
asks the file itself.

It is an SQLite file (what the store has for its own metadata) with a row for each directory that
shows. It holds for the very directories that it was made of, known by the inode number and the
change time of each layer's root: a store that was copied has others, and its mounts read the layers
until an index is made there. Owners are as the machine's first user namespace has them; in
another, or where a layer's root shows another owner than then (an idmapped mount), files are asked.
Not so where every file's owner is kept in an attribute (``ondisk.override``), as in a store that is
not root's: what is written down is what that says, and holds wherever all these owners have names.

A row's content, which the extension reads as well (``_listing.c``), little-endian: how many layers
have the directory (u16), whether the lowest of them hides what is below (u8), how many names there
are (u32), the numbers of those layers (u16 each, topmost first); then of each name the inode number
(u64), the kind (``S_IF*``, u16) and the number of the layer that shows it (u16), each as a column;
of each name what stat(2) says (``_STAT``: mode, nlink, uid, gid, size, blocks, rdev, blksize, then
atime, mtime and ctime in ns); and the names with NUL between.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from unionfs.errors import RefusedError
from unionfs.syscalls.capability import in_initial_user_namespace
from unionfs.syscalls.idmap import own_ids
from unionfs.union.layer import Layer, Part

if TYPE_CHECKING:
    import sqlite3

    from unionfs.union.node import Node
    from unionfs.union.tree import Tree

_VERSION = 2
_HEAD = struct.Struct("<HBI")
_STAMP = struct.Struct("<Qq")
_OWNER = struct.Struct("<II")
_IDS = struct.Struct("<I")
_STAT = struct.Struct("<IIIIQQQIqqq")
_BORN = struct.Struct("<Q")
_SECOND = 10**9  # ns
_COLUMNS = 12  # bytes of each name in them
_PAGE = 16384  # bytes; from a cold disk a directory is one read or two
_KEPT = 64  # directories that are remembered, so that looking at file after file asks once
_SCHEMA = """
CREATE TABLE about (stamps BLOB NOT NULL, owners BLOB NOT NULL, users BLOB, groups BLOB);
CREATE TABLE directories (path BLOB PRIMARY KEY, content BLOB NOT NULL);
"""


class NotIndexableError(RefusedError):
    """The index cannot say what a layer has; its mounts read the layers.

    Marks, that is, or times after the year 2262.
    """


class Merged(NamedTuple):
    """A directory as the lowers show it, in columns: an element a name.

    ``homes`` are the numbers of the layers that show each name.
    """

    names: Sequence[bytes]
    born: Sequence[int]
    kinds: Sequence[int]
    homes: Sequence[int]


class MergedIndex:
    """The index in an open file. One thread, between awaits.

    ``has_attributes``: ``stat`` may be asked.
    """

    __slots__ = ("_columns", "_kept", "_latest", "_rows", "has_attributes")

    def __init__(self, rows: sqlite3.Connection, *, has_attributes: bool) -> None:
        self._rows = rows
        self.has_attributes = has_attributes
        self._kept: dict[bytes, bytes] = {}  # rows' contents; empty where there is no row
        self._latest: Part | None = None  # whose content _columns is: a directory at a time
        self._columns = b""

    @classmethod
    def open(cls, path: bytes, lowers: Sequence[Layer]) -> MergedIndex | None:
        """Return the index in the file *path* if it is one of *lowers* (topmost first), else None.

        None as well if there is no such file, or it is another version's.
        """
        import sqlite3  # here, as below: a mount without an index is not to pay for it

        try:
            where = f"file:{quote(path)}?mode=ro&immutable=1"
            rows = sqlite3.connect(where, uri=True, isolation_level=None)
        except sqlite3.Error:
            return None
        try:
            (version,) = rows.execute("PRAGMA user_version").fetchone()
            if version == _VERSION:
                about = "SELECT stamps, owners, users, groups FROM about"
                stamps, owners, *kept = rows.execute(about).fetchone()
                if stamps == _stamps(lowers):
                    holds = _have_names(kept) or owners == _owners(lowers) != b""
                    return cls(rows, has_attributes=holds)
        except (sqlite3.Error, TypeError, struct.error):
            pass  # damaged, or half of it: as good as none
        rows.close()
        return None

    def directory(self, path: bytes) -> Merged | None:
        """Return what the lowers show in the directory *path* (``/`` is the root).

        None if they show no directory there. Raises sqlite3.Error if the file cannot be read.
        """
        content = self.row(path)
        return _unpack(content) if content else None

    def layers(self, path: bytes) -> tuple[Sequence[int], bool]:
        """Return the numbers of the layers that have the directory *path*, topmost first.

        And whether the last of them hides what is below. None have what is no directory. Raises as
        ``directory``.
        """
        content = self.row(path)
        if not content:
            return (), False
        depth, opaque, _ = _HEAD.unpack_from(content)
        return struct.unpack_from(f"<{depth}H", content, _HEAD.size), bool(opaque)

    def stat(self, directory: Part, place: int) -> os.stat_result:
        """Return the attributes of the name at *place* in *directory*, which shows it.

        Raises sqlite3.Error, struct.error where that is not there.
        """
        if directory is not self._latest:
            self._columns = self.row(directory.path())
            self._latest = directory
        content = self._columns
        depth, _, count = _HEAD.unpack_from(content)
        columns = _HEAD.size + 2 * depth
        (born,) = _BORN.unpack_from(content, columns + _BORN.size * place)
        mode, nlink, uid, gid, size, blocks, rdev, blksize, atime, mtime, ctime = _STAT.unpack_from(
            content, columns + _COLUMNS * count + _STAT.size * place
        )
        # All 19 fields in their order: with those without a position as a dict it takes three times
        # as long, which is longer than to ask the file.
        return os.stat_result(
            (
                *(mode, born, directory.layer.device, nlink, uid, gid, size),
                *(atime // _SECOND, mtime // _SECOND, ctime // _SECOND),
                *(atime / _SECOND, mtime / _SECOND, ctime / _SECOND),
                *(atime, mtime, ctime),
                *(blksize, blocks, rdev),
            )
        )

    def row(self, path: bytes) -> bytes:
        """Return the row of the directory *path* as it is in the file, empty if there is none.

        Raises sqlite3.Error.
        """
        kept = self._kept
        content = kept.get(path)
        if content is None:
            found = self._rows.execute("SELECT content FROM directories WHERE path = ?", (path,))
            row = found.fetchone()
            if len(kept) == _KEPT:
                kept.clear()
            content = kept[path] = b"" if row is None else row[0]
        return content

    def close(self) -> None:
        """Close the file."""
        self._rows.close()


def write(path: str, tree: Tree) -> None:
    """Write the index of *tree*, which has no upper and is used for nothing else, to a new file.

    The file is not synced. Raises NotIndexableError, OSError, sqlite3.Error.
    """
    import sqlite3

    lowers = tree.lowers()
    rows = sqlite3.connect(path, isolation_level=None)
    try:
        rows.execute(f"PRAGMA page_size = {_PAGE}")
        rows.execute("PRAGMA journal_mode = OFF")  # a file that was not finished is thrown away
        rows.execute("PRAGMA synchronous = OFF")
        rows.execute("BEGIN")
        for statement in _SCHEMA.split(";"):
            rows.execute(statement)
        kept = _Kept()
        pending = [tree.root]
        while pending:
            node = pending.pop()
            children = tree.load(node)
            content = _pack(tree, node, kept)
            rows.execute("INSERT INTO directories VALUES (?, ?)", (node.path(), content))
            pending += [child for child in children.values() if child.is_dir]
            node.children = None  # a directory at a time, or large images would fill the memory
        about = (_stamps(lowers), _owners(lowers), *kept.blobs())
        rows.execute("INSERT INTO about VALUES (?, ?, ?, ?)", about)
        rows.execute(f"PRAGMA user_version = {_VERSION}")
        rows.execute("COMMIT")
    finally:
        rows.close()


class _Kept:
    """Which owners are written down in attributes; ``all``: so far every file's."""

    def __init__(self) -> None:
        self.all = True
        self.users: set[int] = set()
        self.groups: set[int] = set()

    def note(self, st: os.stat_result, *, written: bool) -> None:
        self.all = self.all and written
        self.users.add(st.st_uid)
        self.groups.add(st.st_gid)

    def blobs(self) -> tuple[bytes, bytes] | tuple[None, None]:
        """Return the users and groups as the file has them; nothing if some are the disk's."""
        if not self.all:
            return None, None
        users, groups = (b"".join(map(_IDS.pack, sorted(ids))) for ids in (self.users, self.groups))
        return users, groups


def _have_names(kept: Sequence[bytes | None]) -> bool:
    """Return whether all users and groups that are *kept* have names in this user namespace."""
    if None in kept:
        return False
    users, groups = (_IDS.iter_unpack(ids or b"") for ids in kept)
    known = own_ids()
    return known is None or known.have((uid for (uid,) in users), (gid for (gid,) in groups))


def _stamps(lowers: Sequence[Layer]) -> bytes:
    stamps = []
    for layer in lowers:
        st = os.fstat(layer.root.held)
        stamps.append(_STAMP.pack(st.st_ino, st.st_ctime_ns))
    return b"".join(stamps)


def _owners(lowers: Sequence[Layer]) -> bytes:
    """Return who the layers' roots belong to; nothing where user IDs are not the machine's own."""
    if not in_initial_user_namespace():
        return b""
    found = (os.fstat(layer.root.held) for layer in lowers)
    return b"".join(_OWNER.pack(st.st_uid, st.st_gid) for st in found)


def _pack(tree: Tree, node: Node, kept: _Kept) -> bytes:
    parts, children = node.parts, node.children or {}
    for part in parts:
        if part.whiteout_files or part.redirect is not None:
            where = os.fsdecode(part.layer.path + part.path())
            raise NotIndexableError(f"{where} has marks that an index cannot say")
    files = children.values()
    count = len(children)
    return b"".join(
        (
            _HEAD.pack(len(parts), parts[-1].opaque, count),
            struct.pack(f"<{len(parts)}H", *(part.layer.number for part in parts)),
            struct.pack(f"<{count}Q", *(child.born for child in files)),
            struct.pack(f"<{count}H", *(child.kind for child in files)),
            struct.pack(f"<{count}H", *(_home(child) for child in files)),
            *(_attributes(tree, child, kept) for child in files),
            b"\0".join(children),
        )
    )


def _attributes(tree: Tree, child: Node, kept: _Kept) -> bytes:
    st, written = tree.kept_stat(child)
    kept.note(st, written=written)
    numbers = (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_blocks)
    times = (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)
    try:
        return _STAT.pack(*numbers, st.st_rdev, st.st_blksize, *times)
    except struct.error:
        path = os.fsdecode(child.path())
        raise NotIndexableError(f"{path} has a time that an index cannot say") from None


def _home(child: Node) -> int:
    part = child.candidates[0] if child.is_dir else child.source
    assert part is not None  # there is no upper
    return part.layer.number


def _unpack(content: bytes) -> Merged:
    depth, _, count = _HEAD.unpack_from(content)
    at = _HEAD.size + 2 * depth
    born = struct.unpack_from(f"<{count}Q", content, at)
    at += 8 * count
    kinds = struct.unpack_from(f"<{count}H", content, at)
    at += 2 * count
    homes = struct.unpack_from(f"<{count}H", content, at)
    at += 2 * count + _STAT.size * count
    names = content[at:].split(b"\0") if count else []
    return Merged(names, born, kinds, homes)

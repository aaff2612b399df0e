"""What a tree looks like to a program, and how two trees differ.

``snapshot`` walks by directory descriptors (any depth, any name) and looks at everything that
stat(2), readdir(3), readlink(2), read(2) and listxattr(2) tell. What a tree says about itself
must fit together as well (d_ino and st_ino, d_type and st_mode, no name twice, no inode number
shared by two files): what does not is in ``Tree.faults``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from tests.support.kernel import getdents

FIELDS = [
    "kind",
    "mode",
    "uid",
    "gid",
    "size",
    "mtime",
    "rdev",
    "target",
    "xattrs",
    "content",
    "nlink",
    "links",
]  # what ``differences`` looks at unless told otherwise

_Entry = tuple[bytes, os.stat_result]
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class Node:
    """One name of a tree. Directories have size and nlink 0: filesystems disagree about both."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int | str
    rdev: int
    target: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    content: str
    nlink: int
    ino: int
    links: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Tree:
    """Paths relative to the root (the root is ``b"."``) and the faults of the tree in itself."""

    nodes: dict[bytes, Node]
    faults: list[str] = field(default_factory=list)


def snapshot(
    root: bytes, *, stamp: Callable[[int], int | str] = lambda ns: ns, content: bool = True
) -> Tree:
    """Return the tree at *root*. *stamp* says how a time in ns is to be shown."""
    nodes: dict[bytes, Node] = {}
    faults: list[str] = []
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        walker = _Walker(nodes, faults, stamp, content)
        nodes[b"."] = walker.node(root_fd, b".", os.fstat(root_fd))
        walker.walk(root_fd, b"")
    finally:
        os.close(root_fd)
    return Tree(_with_links(nodes, faults), faults)


class _Walker:
    def __init__(self, nodes, faults, stamp, content: bool) -> None:
        self.nodes, self.faults, self.stamp, self.content = nodes, faults, stamp, content

    def walk(self, top_fd: int, prefix: bytes) -> None:
        """Visit depth first with one descriptor a level, without recursion (deep trees)."""
        stack: list[tuple[int, bytes, Iterator[_Entry]]] = []
        try:
            stack.append((os.dup(top_fd), prefix, self._names(top_fd, prefix)))
            while stack:
                fd, prefix, names = stack[-1]
                child = next(names, None)
                if child is None:
                    os.close(stack.pop()[0])
                    continue
                name, st = child
                path = prefix + name
                self.nodes[path] = self.node(fd, name, st)
                if stat.S_ISDIR(st.st_mode):
                    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                    stack.append((below, path + b"/", self._names(below, path + b"/")))
        finally:
            for fd, _, _ in stack:
                os.close(fd)

    def _names(self, fd: int, prefix: bytes) -> Iterator[_Entry]:
        """Yield each entry of *fd*, with its stat, sorted; note what does not fit together.

        All are read at the first step, when the caller has noted that *fd* is to be closed.
        """
        os.lseek(fd, 0, os.SEEK_SET)
        found = {}
        for entry in getdents(fd):
            if entry.name in (b".", b".."):
                continue
            shown = repr(prefix + entry.name)
            if entry.name in found:
                self.faults.append(f"{shown}: listed twice")
            try:
                st = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
            except OSError as error:
                self.faults.append(f"{shown}: listed, but stat says {error.strerror}")
                continue
            if entry.ino != st.st_ino:
                self.faults.append(f"{shown}: d_ino {entry.ino} is not st_ino {st.st_ino}")
            if entry.kind not in (0, stat.S_IFMT(st.st_mode) >> 12):
                self.faults.append(f"{shown}: d_type {entry.kind} for mode {st.st_mode:o}")
            found[entry.name] = st
        yield from sorted(found.items())

    def node(self, fd: int, name: bytes, st: os.stat_result) -> Node:
        kind = _KINDS[stat.S_IFMT(st.st_mode)]
        is_dir = kind == "dir"
        return Node(
            kind=kind,
            mode=stat.S_IMODE(st.st_mode),
            uid=st.st_uid,
            gid=st.st_gid,
            size=0 if is_dir else st.st_size,
            mtime=self.stamp(st.st_mtime_ns),
            rdev=st.st_rdev if kind in ("char", "block") else 0,
            target=os.readlink(name, dir_fd=fd) if kind == "symlink" else b"",
            xattrs=read_xattrs(b"/proc/self/fd/%d/%s" % (fd, name)),
            content=_content(fd, name) if kind == "file" and self.content else "",
            nlink=0 if is_dir else st.st_nlink,
            ino=st.st_ino,
        )


def read_xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return all attributes of *path* itself, sorted by name; none where there is no support."""
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def _content(dir_fd: int, name: bytes) -> str:
    digest = hashlib.sha256()
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:  # only a file's owner may ask for that
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        while piece := os.read(fd, 1 << 20):
            digest.update(piece)
    finally:
        os.close(fd)
    return digest.hexdigest()[:16]


def _with_links(nodes: dict[bytes, Node], faults: list[str]) -> dict[bytes, Node]:
    """Fill in ``links``: for a name whose inode has others, all of its names."""
    groups: dict[int, list[bytes]] = {}
    for path, node in nodes.items():
        groups.setdefault(node.ino, []).append(path)
    for ino, paths in groups.items():
        if len(paths) == 1:
            continue
        if len({(nodes[path].kind, nodes[path].rdev) for path in paths}) > 1 or any(
            nodes[path].kind == "dir" for path in paths
        ):
            faults.append(f"inode number {ino} is shared by {paths}")
            continue
        for path in paths:
            nodes[path] = _replace_links(nodes[path], tuple(sorted(paths)))
    return nodes


def _replace_links(node: Node, links: tuple[bytes, ...]) -> Node:
    values = {name: getattr(node, name) for name in Node.__slots__}
    return Node(**{**values, "links": links})


@dataclass(frozen=True, slots=True)
class Difference:
    """At *path*, *field* is *left* in one tree and *right* in the other."""

    path: bytes
    kind: str
    field: str
    left: object
    right: object

    def __str__(self) -> str:
        return f"{self.path!r} ({self.kind}): {self.field} is {self.left!r} / {self.right!r}"


def differences(
    left: Tree, right: Tree, *, fields: Collection[str] = FIELDS
) -> Iterator[Difference]:
    """Yield where the trees differ, sorted by path: a missing name once, else field by field."""
    for path in sorted(left.nodes.keys() | right.nodes.keys()):
        a, b = left.nodes.get(path), right.nodes.get(path)
        if a is None or b is None:
            there = a or b
            assert there is not None
            yield Difference(path, there.kind, "name", _presence(a), _presence(b))
            continue
        for name in fields:
            if getattr(a, name) != getattr(b, name):
                yield Difference(path, a.kind, name, getattr(a, name), getattr(b, name))


def _presence(node: Node | None) -> str:
    return "missing" if node is None else f"a {node.kind}"


def report(
    left: Tree, right: Tree, names: tuple[str, str], *, fields: Collection[str] = FIELDS
) -> str:
    """Return all faults and differences as lines, empty when the trees are the same and sound."""
    lines = [f"{names[0]}: {fault}" for fault in left.faults]
    lines += [f"{names[1]}: {fault}" for fault in right.faults]
    found = [str(one) for one in differences(left, right, fields=fields)]
    if found:
        lines.append(f"differences ({names[0]} / {names[1]}):")
        lines += [f"  {line}" for line in found[:60]]
        if len(found) > 60:
            lines.append(f"  … and {len(found) - 60} more")
    return "\n".join(lines)


def assert_same(
    left: Tree, right: Tree, names: tuple[str, str], *, fields: Collection[str] = FIELDS
) -> None:
    """Fail with a readable report unless the trees are the same and each sound in itself."""
    text = report(left, right, names, fields=fields)
    assert not text, "\n" + text

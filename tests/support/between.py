"""What a killed daemon may leave of a change that takes two writes, and who may do what in it."""

from __future__ import annotations

import itertools
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from tests.support.trees import Node, Tree
from unionfs.ondisk import acl

_SET_ID = stat.S_ISUID | stat.S_ISGID  # also, of who may run a file: as the owner or the group
_REMOVE, _MAKE = 0o10, 0o20  # of who may write in a directory: others' files, files of its group
_ACCESS = acl.ACCESS.decode()


class Between(NamedTuple):
    """A state of the file *path* between two others: *make* tells it from those, *name* says it."""

    name: str
    path: bytes
    make: Callable[[Node, Node], Node]

    def of(self, before: Tree, after: Tree) -> Tree:
        """Return this state of the tree that a change is to take from *before* to *after*."""
        node = self.make(before.nodes[self.path], after.nodes[self.path])
        return Tree({**before.nodes, self.path: node}, before.faults)


def _acl_first(path: bytes) -> Between:
    return Between("the ACL alone", path, lambda old, new: replace(old, xattrs=new.xattrs))


def _mode_first(path: bytes) -> Between:
    return Between("the mode alone", path, lambda old, new: replace(old, mode=new.mode))


def _special_first(path: bytes) -> Between:
    """Set-id bits are gone, and a sticky bit is there."""
    return Between("special bits alone", path, _with_special)


def _permissions_last(path: bytes) -> Between:
    return Between(
        "all but the permission bits",
        path,
        lambda old, new: replace(_with_special(old, new), xattrs=new.xattrs),
    )


def _with_special(old: Node, new: Node) -> Node:
    return replace(old, mode=old.mode & 0o777 | new.mode & ~0o777)


_FOREIGN = "give a file an ACL, not being in its group"
# By the names of ``TWO_WRITES``: first wherever owners are kept,
_ANYWHERE = {
    _FOREIGN: (_special_first(b"file"),),
    "truncate another's set-id file": (_mode_first(b"file"),),
    "open another's set-id file with O_TRUNC": (_mode_first(b"file"),),
}
# then where that is aside, and an ACL and the mode are two attributes.
_ASIDE = {
    **_ANYWHERE,
    _FOREIGN: (_special_first(b"file"), _permissions_last(b"file")),
    "chmod a file with an ACL": (_acl_first(b"dir/a"),),
    "chmod a directory with an ACL": (_acl_first(b"dir"),),
    "chmod away the set-user-ID of a file with an ACL": (
        _special_first(b"dir/a"),
        _permissions_last(b"dir/a"),
    ),
    "chmod a directory with an ACL to be sticky": (
        _special_first(b"dir"),
        _permissions_last(b"dir"),
    ),
    "give a file an ACL": (_acl_first(b"dir/a"),),
    "give a file another ACL": (_acl_first(b"dir/a"),),
    "take an ACL from a file": (_mode_first(b"dir/a"),),
}


def allowed(case: str, *, aside: bool) -> tuple[Between, ...]:
    """Return the states that *case* may leave between old and new; *aside*: so owners are kept."""
    return (_ASIDE if aside else _ANYWHERE).get(case, ())


def widened(tree: Tree, before: Tree, after: Tree) -> Iterator[str]:
    """Yield what somebody may in *tree* that he may neither *before* nor *after*."""
    for path, node in tree.nodes.items():
        ends = [there.nodes[path] for there in (before, after) if path in there.nodes]
        more = node.mode
        for end in ends:
            more &= ~end.mode
        if more:
            yield f"{path!r}: the bits {more:o} of the mode"
        for reading in (_kernel_lets, _daemon_lets):
            for who in _callers((node, *ends)):
                rights = reading(node, *who)
                for end in ends:
                    rights &= ~reading(end, *who)
                if rights:
                    yield f"{path!r}: {reading.__name__} {who} do {rights:o}"


def _callers(nodes: Collection[Node]) -> Iterator[tuple[int, frozenset[int]]]:
    """Yield user ID and groups of everybody whom an owner or an ACL of *nodes* may mean."""
    users, groups = {65_000}, set()
    for node in nodes:
        users.add(node.uid)
        groups.add(node.gid)
        for entry in _acl_of(node) or ():
            users |= {entry.id} if entry.tag == acl.USER else set()
            groups |= {entry.id} if entry.tag == acl.GROUP else set()
    some = [itertools.combinations(sorted(groups), count) for count in range(len(groups) + 1)]
    return itertools.product(sorted(users), map(frozenset, itertools.chain(*some)))


def _kernel_lets(node: Node, uid: int, groups: Collection[int]) -> int:
    """Return what a caller may (rwx) by fs/namei.c, acl_permission_check().

    The mode alone counts for the owner, and for all where it gives the group nothing.
    """
    found = _acl_of(node) if node.mode & 0o070 and uid != node.uid else None
    return _lets(_basic(node.mode) if found is None else found, node, uid, groups)


def _daemon_lets(node: Node, uid: int, groups: Collection[int]) -> int:
    """Return what a caller may (rwx) by acl(5), as a mount with allow_other has it."""
    found = _acl_of(node)
    return _lets(_basic(node.mode) if found is None else found, node, uid, groups)


def _lets(entries: acl.Acl, node: Node, uid: int, groups: Collection[int]) -> int:
    """Return the bits rwx, and more above them for what comes of these with a special bit."""
    owner = (node.uid, node.gid)
    rights = sum(want for want in (4, 2, 1) if acl.permits(entries, owner, uid, groups, want))
    if node.kind == "dir":
        rights |= _REMOVE if rights & 2 and not node.mode & stat.S_ISVTX else 0
        return rights | (_MAKE if rights & 2 and node.mode & stat.S_ISGID else 0)
    return rights | (node.mode & _SET_ID if rights & 1 else 0)


def _acl_of(node: Node) -> acl.Acl | None:
    value = dict(node.xattrs).get(_ACCESS)
    return None if value is None else acl.decode(value)


def _basic(mode: int) -> acl.Acl:
    bits = {acl.USER_OBJ: mode >> 6, acl.GROUP_OBJ: mode >> 3, acl.OTHER: mode}
    return [acl.Entry(tag, perm & 7, 0xFFFFFFFF) for tag, perm in bits.items()]

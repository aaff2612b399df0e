"""Which user and group IDs this process's user namespace has a name for (user_namespaces(7))."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, Self, TypeVar

_ROOT = 0
_ALL = 0xFFFFFFFF  # how many IDs a namespace that has them all maps


class _Owned(Protocol):
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    def _replace(self, *, uid: int, gid: int) -> Self: ...


T = TypeVar("T", bound=_Owned)


class IdMap(NamedTuple):
    """The IDs inside, as ranges, of users and of groups."""

    users: tuple[range, ...]
    groups: tuple[range, ...]

    def known(self, owned: T) -> T:
        """Return *owned* with root in the place of an owner or group that has no name here."""
        uid = owned.uid if _has(self.users, owned.uid) else _ROOT
        gid = owned.gid if _has(self.groups, owned.gid) else _ROOT
        return owned if (uid, gid) == (owned.uid, owned.gid) else owned._replace(uid=uid, gid=gid)

    def have(self, users: Iterable[int], groups: Iterable[int]) -> bool:
        """Return whether all *users* and *groups* have names here."""
        return all(_has(self.users, uid) for uid in users) and all(
            _has(self.groups, gid) for gid in groups
        )


def _has(ranges: tuple[range, ...], number: int) -> bool:
    return any(number in ids for ids in ranges)


def own_ids() -> IdMap | None:
    """Return the IDs of this process's user namespace; None if it has all there are."""
    found = IdMap(_inside("/proc/self/uid_map"), _inside("/proc/self/gid_map"))
    return None if all(_has_all(ids) for ids in found) else found


def overflow_ids() -> tuple[int, int]:
    """Return the user and the group ID that stand for those without a name (proc(5))."""
    found = []
    for name in ("overflowuid", "overflowgid"):
        with open(f"/proc/sys/kernel/{name}", "rb") as file:
            found.append(int(file.read()))
    return found[0], found[1]


def _inside(path: str) -> tuple[range, ...]:
    with open(path, "rb") as table:
        lines = [line.split() for line in table]
    return tuple(range(int(first), int(first) + int(count)) for first, _, count in lines)


def _has_all(ids: tuple[range, ...]) -> bool:
    return sum(map(len, ids)) >= _ALL

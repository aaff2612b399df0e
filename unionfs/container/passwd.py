"""Who a container's process is: ``User`` of an image's config, looked up in the image itself.

The rules are those of docker (moby/sys ``user.GetExecUser``): ``user[:group]``, names or numbers;
a number needs no entry; supplementary groups count only when no group is named.
"""

from __future__ import annotations

from dataclasses import dataclass

from unionfs.container.rootfile import read_small
from unionfs.errors import NotFoundError, RefusedError

_MAX_ID = 2**31 - 1  # moby's bound: beyond it, ids wrapped to root (CVE-2024-40635)


class NoSuchUserError(NotFoundError):
    """The image's passwd or group file does not have a name."""


class BadUserError(RefusedError):
    """A user or group is a number outside 0 … 2^31-1."""


@dataclass(frozen=True, slots=True)
class User:
    """Numeric IDs of a process and its home directory (``/`` when the image names none)."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve_user(root_fd: int, wanted: str) -> User:
    """Return the User that *wanted* (``user[:group]``; empty is root) means in the root.

    Raises NoSuchUserError, BadUserError, RootFileError; OSError if the files cannot be read.
    """
    name, _, group = wanted.partition(":")
    accounts = _table(read_small(root_fd, b"etc/passwd"), 6)
    groups = _table(read_small(root_fd, b"etc/group"), 3)
    account = _find(accounts, name or "0")
    if account is None:
        uid, gid, home = _number(name or "0", "user", wanted), 0, "/"
    else:
        uid, gid = _number(account[2], "user", wanted), _number(account[3], "group", wanted)
        home = account[5] or "/"
    if group:
        return User(uid, _group(groups, group, wanted), (), home)
    extra = _memberships(groups, account[0]) if account is not None else ()
    return User(uid, gid, extra, home)


def _table(text: bytes, fields: int) -> list[list[str]]:
    """Return the lines of a passwd-like file that have at least *fields* fields, split."""
    rows = (line.split(":") for line in text.decode("utf-8", "surrogateescape").split("\n"))
    return [row for row in rows if len(row) >= fields]


def _find(rows: list[list[str]], wanted: str) -> list[str] | None:
    """Return the row called *wanted*, else the row numbered so: names win, as in docker."""
    for row in rows:
        if row[0] == wanted:
            return row
    return next((row for row in rows if wanted.isdecimal() and row[2] == wanted), None)


def _group(rows: list[list[str]], group: str, wanted: str) -> int:
    row = _find(rows, group)
    return _number(group if row is None else row[2], "group", wanted)


def _memberships(rows: list[list[str]], name: str) -> tuple[int, ...]:
    found = {
        int(row[2]) for row in rows if len(row) > 3 and name in row[3].split(",") and _is_id(row[2])
    }
    return tuple(sorted(found))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _MAX_ID


def _number(text: str, what: str, wanted: str) -> int:
    if _is_id(text):
        return int(text)
    if text.lstrip("-").isdecimal():
        raise BadUserError(f"user {wanted!r}: {what} {text} is not between 0 and {_MAX_ID}")
    asked = "" if text == wanted else f" ({wanted!r} was asked for)"
    raise NoSuchUserError(f"the image has no {what} {text!r}{asked}")

"""Whatever breaks below a request handler: nothing but FUSEError leaves it (DESIGN.md 2.5)."""

from __future__ import annotations

import errno
import inspect
import os
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest

from tests.support.faulty import handlers
from tests.support.worlds import World, run
from tests.unit.fuse.conftest import Build
from unionfs.fuse import guard
from unionfs.fuse.operations import Operations
from unionfs.fuse.rooted import RootedOperations
from unionfs.fuse.shared import SharedOperations

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("inline")]
KINDS = (Operations, RootedOperations, SharedOperations)
STRANGER = SimpleNamespace(uid=1000, gid=1000, pid=os.getpid(), umask=0)
# The kernel is told not to ask again: nothing else is done.
ANSWERED = {"flush": errno.ENOSYS}
UNHEARD = ("forget",)


class BrokenError(Exception):
    """Nobody catches this by name."""


class _Broken:
    def __getattr__(self, name: str) -> Any:
        raise BrokenError(name)

    def __getitem__(self, key: object) -> Any:
        raise BrokenError(key)

    def forget(self, *_: int) -> None:
        raise BrokenError


def _cases() -> list[tuple[type[Operations], str]]:
    return [(kind, name) for kind in KINDS for name in handlers(kind)]


@pytest.mark.parametrize(("kind", "name"), _cases())
def test_nothing_but_an_answer_leaves_a_handler(
    build: Build, kind: type[Operations], name: str
) -> None:
    world = build()
    handler = getattr(_broken(kind, world), name)
    before = guard.unforeseen
    arguments = [_value(word) for word in inspect.signature(handler).parameters]
    if name in UNHEARD:
        run(handler([(7, 1)]))
    else:
        with pytest.raises(pyfuse3.FUSEError) as caught:
            run(handler(*arguments))
        assert caught.value.errno == ANSWERED.get(name, errno.EIO)
    assert guard.unforeseen == before + (name not in ANSWERED)


def _broken(kind: type[Operations], world: World) -> Operations:
    operations = kind(world.tree, world.upper)
    operations.inodes = operations.files = operations.tree = _Broken()  # type: ignore[assignment]
    return operations


def _value(word: str) -> Any:
    """Return something for the argument *word* of a handler."""
    others = {
        "name": b"user.n",
        "ctx": STRANGER,
        "buf": b"x",
        "token": None,
        "attr": None,
        "flags": 0,
    }
    if word in others:
        return others[word]
    if word == "fields":
        return SimpleNamespace(**{"update_" + f: True for f in ("size", "atime", "mtime", "uid")})
    return b"n" if word in ("new_name", "name_old", "name_new", "value", "target") else 7

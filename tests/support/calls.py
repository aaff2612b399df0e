"""The words that the tables of ``tests/mount/parity`` are written in.

A line of a table is a ``Case``: a call with its arguments, the scenes it is made on and who makes
it. It stands for one ``Trial`` for each scene and user, each in a folder of its own, which is the
caller's current directory. What the call returns (or its errno's name) is the answer; what it did
to the folder is looked at from outside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.callers import ROOT, User
from tests.support.things import Folder, Scene, label, one

Call = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Case:
    """*needs* names the feature of ``tests.support.extension`` without which all is different.

    *atime*: access times are compared as well, because the call sets them.
    """

    call: Call
    args: tuple[Any, ...]
    on: Sequence[Scene]
    by: Sequence[User] = (ROOT,)
    folder: Folder = field(default_factory=Folder)
    umask: int = 0o022
    needs: str = ""
    atime: bool = False

    def __str__(self) -> str:
        words = ", ".join(_word(argument) for argument in self.args)
        return f"{self.call.__name__}({words})"

    def trials(self) -> Iterator[Trial]:
        for scene in self.on:
            for user in self.by:
                yield Trial(self, scene, user)


@dataclass(frozen=True, slots=True)
class Trial:
    """One call by one user on one scene. ``subject`` is how the exceptions table calls it."""

    case: Case
    scene: Scene
    user: User

    @property
    def subject(self) -> str:
        return f"{self.case.call.__name__.rstrip('_')} {label(self.scene)}"

    def __str__(self) -> str:
        return f"{self.case} on {label(self.scene)} by {self.user.name}"


def _word(argument: Any) -> str:
    if isinstance(argument, str | bytes) and len(argument) > 30:
        return f"{argument[:6]!r}…({len(argument)})"
    if callable(argument):
        return str(getattr(argument, "__name__", argument))
    return oct(argument) if isinstance(argument, int) and argument > 9 else repr(argument)


def case(call: Call, *args: Any, on: Sequence[Scene] | None = None, **how: Any) -> Case:
    """Return a line of a table; without *on*, for one of everything. *how*: fields of ``Case``."""
    return Case(call, args, one() if on is None else on, **how)


def through(call: Call, flags: int = os.O_RDONLY) -> Call:
    """Return *call*, made through a descriptor: its first argument is a name to be opened."""

    def opened(name: str, *args: Any) -> Any:
        fd = os.open(name, flags | os.O_NONBLOCK)
        try:
            return call(fd, *args)
        finally:
            os.close(fd)

    opened.__name__ = call.__name__
    return opened

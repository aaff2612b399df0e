"""Every handler of every kind of mount, where nothing is as it should be: nothing but an errno.

The handlers are those that pyfuse3 names: whoever adds one has it tried here.
"""

from __future__ import annotations

import errno
import inspect
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest

from tests.support import faulty
from tests.support.worlds import run
from unionfs.fuse import guard, native
from unionfs.fuse.operations import Operations
from unionfs.fuse.rooted import RootedOperations
from unionfs.fuse.shared import SharedOperations

KINDS = (Operations, RootedOperations, SharedOperations)
HANDLERS = [(kind, name) for kind in KINDS for name, _ in faulty.handlers(kind)]
STRANGER = SimpleNamespace(uid=1000, gid=1000, pid=0, umask=0o22)
FIELDS = SimpleNamespace(
    **dict.fromkeys(
        ("update_mode", "update_uid", "update_gid", "update_size", "update_atime", "update_mtime"),
        True,
    )
)
ERRORS = (  # what happens, and what the kernel is told
    (RuntimeError("never seen"), errno.EIO),
    (OSError("without a number"), errno.EIO),
    (OSError(524, "the kernel's own"), errno.EIO),
    (OSError(errno.EDQUOT, "full"), errno.EDQUOT),
    (MemoryError(), errno.ENOMEM),
)
# Those that have nothing to fail at, or nobody to tell.
ANSWERS = {"flush": errno.ENOSYS, "forget": 0}


def _broken(kind: type[Operations], error: Exception) -> Any:
    """Return operations of *kind* in which whatever is kept there cannot be had: *error*."""

    def fail(self: object, name: str) -> object:
        raise error

    return object.__new__(type("Broken", (kind,), {"__getattr__": fail}))


def _arguments(handler: Callable[..., Any]) -> Iterator[object]:
    kinds: dict[str, object] = {
        "int": 2,
        "int | None": None,
        "bytes": b"user.name",
        "bool": True,
        "Sequence[tuple[int, int]]": [(2, 1)],
        "EntryAttributes": pyfuse3.EntryAttributes(),
        "SetattrFields": FIELDS,
        "RequestContext": STRANGER,
        "ReaddirToken": None,
    }
    for parameter in list(inspect.signature(handler).parameters.values())[1:]:
        yield kinds[parameter.annotation]


def _told(call: Callable[[], object]) -> int:
    try:
        call()
    except pyfuse3.FUSEError as error:
        return error.errno
    return 0


@pytest.mark.parametrize(("error", "number"), ERRORS, ids=[type(e).__name__ for e, _ in ERRORS])
def test_no_exception_leaves_a_handler(
    error: Exception, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    foreseen = isinstance(error, OSError) and bool(error.errno)
    for kind, name in HANDLERS:
        handler = getattr(kind, name)
        before = guard.unforeseen
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            told = _told(lambda k=kind, h=handler: run(h(_broken(k, error), *_arguments(h))))
        where = f"{kind.__name__}.{name}"
        assert told == ANSWERS.get(name, number), where
        assert bool(caplog.records) != (foreseen or name == "flush"), where
        assert guard.unforeseen == before + len(caplog.records), where


@pytest.mark.parametrize("opcode", [*range(39, 48), 4096])
@pytest.mark.parametrize("body", [b"", bytes(256)], ids=["nothing", "zeros"])
def test_nor_what_the_extension_brings(
    opcode: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it should bring: an opcode that nobody knows, a body that is too short."""
    broken = _broken(Operations, RuntimeError("never seen"))
    broken.inodes = {2: None}
    monkeypatch.setattr(native, "carried", lambda: (opcode, body))
    with pytest.raises(pyfuse3.FUSEError):
        run(broken.getxattr(2, native.CARRIER, STRANGER))

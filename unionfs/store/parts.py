"""What layers, images and containers have in common: where, the database, locks, the flavour."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from unionfs.errors import ConflictError, NotFoundError, UnavailableError
from unionfs.ondisk.flavour import Flavour
from unionfs.store.database import Database
from unionfs.store.layout import Layout
from unionfs.store.scratch import Scratch

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class AmbiguousError(ConflictError):
    """A prefix stands for more than one thing."""


class StoreFullError(UnavailableError):
    """The filesystem of the store has no room left; nothing half-made was kept."""


class StoreFailedError(UnavailableError):
    """The filesystem of the store refused an operation."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The pieces of one open store."""

    layout: Layout
    database: Database
    scratch: Scratch
    flavour: Flavour

    @contextmanager
    def failures_named(self, doing: str) -> Iterator[None]:
        """Turn OSError into one line that says what the store was *doing*, and where."""
        try:
            yield
        except OSError as error:
            root = self.layout.root
            if error.errno in _FULL:
                raise StoreFullError(
                    f"no space left in the store at {root} while {doing}: {error.strerror}"
                ) from error
            where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else root
            reason = error.strerror or str(error)
            raise StoreFailedError(
                f"the store at {root} failed {doing}: {reason}: {where}"
            ) from error


def only_one(kind: str, text: str, found: list[str]) -> str:
    """Return the single element of *found*, the IDs that *text* can stand for.

    Raises NotFoundError for none and AmbiguousError, naming some, for several.
    """
    if not found:
        raise NotFoundError(f"no such {kind}: {text or repr(text)}")
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:4])
        raise AmbiguousError(f"{text!r} is the beginning of several {kind} IDs: {shown}")
    return found[0]


def id_pattern(text: str) -> str | None:
    """Return a GLOB pattern for digests that *text* begins, None if it can begin none.

    *text* is hex digits, with or without ``sha256:`` before them.
    """
    algorithm, colon, digits = text.rpartition(":")
    if not digits or digits.strip("0123456789abcdef"):
        return None
    if colon:
        return f"{algorithm}:{digits}*" if algorithm in ("sha256", "sha512") else None
    return f"*:{digits}*"

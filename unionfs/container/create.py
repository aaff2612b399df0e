"""Making a container: a row and an empty upper; nothing is copied."""

from __future__ import annotations

import re

from unionfs.errors import UsageError
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_LONGEST = 128


class BadNameError(UsageError):
    """A container's name has characters that names cannot have."""


def create(store: Store, image: str, name: str | None = None) -> ContainerRecord:
    """Make a container of *image* (a name, ID or prefix), called *name* or something friendly.

    Raises BadNameError, NotFoundError for the image, ConflictError for a name that is taken.
    """
    if name is not None:
        check_name(name)
    return store.containers.create(store.images.resolve(image), name)


def check_name(name: str) -> None:
    """Raise BadNameError unless *name* can name a container (docker's rule, and no 64 digits).

    A name of 64 hex digits would hide the container that has it for its ID.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise BadNameError(
            f"container name {name[:160]!r}: only letters, digits, '_', '.' and '-', "
            f"beginning with a letter or digit, at most {_LONGEST}"
        )
    if re.fullmatch(r"[0-9a-f]{64}", name):
        raise BadNameError(f"container name {name!r} looks like an ID")

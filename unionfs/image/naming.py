"""What things are called: an imported image that nobody names, and what an error is about."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from unionfs.errors import ConflictError, CorruptError, NotFoundError, RefusedError
from unionfs.image.skopeo import RegistryError
from unionfs.image.source import Source
from unionfs.store.names import BadNameError, image_name

_SUFFIX = re.compile(r"\.(tar|tgz|tzst|gz|zst|xz|oci|docker|img)$", re.IGNORECASE)
_UNFIT = re.compile(r"[^a-z0-9]+")


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Put *what* before the message of an error about input, unless it is in there already.

    What reads a document or a tar knows what is wrong with it, and not which one it is.
    """
    try:
        yield
    except (CorruptError, RefusedError, NotFoundError, ConflictError, RegistryError) as error:
        if what not in str(error):
            error.args = (f"{what}: {error}",)
        raise


def source_names(source: Source, called: Sequence[str]) -> list[str]:
    """Return the names for an image whose source calls it *called*.

    A layout's reference is often a tag only (``latest``): then the file's name comes before it.
    What is no name is left out; an image may end up without any.
    """
    full = [name for name in map(_valid, called) if name is not None and _says_more(name, called)]
    if full:
        return list(dict.fromkeys(full))
    stem = name_from_path(source.path)
    if stem is None:
        return []
    tags = [_valid(f"{stem}:{tag}") for tag in called] or [f"{stem}:latest"]
    return list(dict.fromkeys(tag for tag in tags if tag is not None))


def name_from_path(path: str) -> str | None:
    """Return a repository name made of the last component of *path*; None if nothing is left."""
    stem = os.path.basename(os.path.abspath(path)).lower()
    while _SUFFIX.search(stem):
        stem = _SUFFIX.sub("", stem)
    return _UNFIT.sub("-", stem).strip("-") or None


def _says_more(name: str, called: Sequence[str]) -> bool:
    """Return whether *name* was given in full: with a tag or a path, and not as a tag alone."""
    return name in called or ("/" in name and name.rpartition(":")[0] in called)


def _valid(name: str) -> str | None:
    try:
        return image_name(name)
    except BadNameError:
        return None

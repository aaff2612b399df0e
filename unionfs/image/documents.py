"""JSON from outside: decoded strictly, bounded, every type checked before it is believed.

Go's decoder, which most image tools use, matches keys whatever their case and takes the last of
two equal ones. So that no document means one thing here and another there, one with such keys is
refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unionfs.digest import BadDigestError, Digest
from unionfs.errors import CorruptError

MAX_DOCUMENT = 4 << 20
"""Bytes in a document at most: what registries accept for a manifest."""


class BadDocumentError(CorruptError):
    """A document of an image is not JSON, too large, or says something of a wrong type."""


class Fields:
    """A JSON object with checked access; *what* names the document in errors."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise BadDocumentError(f"{what} is not a JSON object")
        folded = {key.casefold() for key in value}
        if len(folded) != len(value):
            raise BadDocumentError(f"{what} has keys that differ in case only")
        self._value: dict[str, Any] = value
        self.what = what

    def has(self, key: str) -> bool:
        """Return whether *key* is there and not null (or there in another case, which is worse)."""
        return any(
            found.casefold() == key.casefold() and value is not None
            for found, value in self._value.items()
        )

    def text(self, key: str) -> str:
        """Return the string *key*, empty if it is missing. Raises BadDocumentError."""
        value = self._value.get(key)
        if value is None:
            return ""
        if not _is_text(value):
            raise self._wrong(key, "a string")
        return str(value)

    def size(self, key: str) -> int:
        """Return the count of bytes *key*. Raises BadDocumentError if it is missing or negative."""
        value = self._value.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise self._wrong(key, "a size in bytes")
        return value

    def digest(self, key: str) -> Digest:
        """Return the digest *key*. Raises BadDocumentError."""
        return self._digest(key, self._value.get(key))

    def digests(self, key: str) -> tuple[Digest, ...]:
        """Return the list of digests *key*. Raises BadDocumentError."""
        return tuple(self._digest(key, value) for value in self.items(key))

    def items(self, key: str) -> Sequence[object]:
        """Return the list *key*, empty if it is missing or null. Raises BadDocumentError."""
        value = self._value.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the list of strings *key*, empty if missing or null. Raises BadDocumentError."""
        found = []
        for value in self.items(key):
            if not _is_text(value):
                raise self._wrong(key, "a list of strings")
            found.append(str(value))
        return tuple(found)

    def children(self, key: str) -> tuple[Fields, ...]:
        """Return the list of objects *key*. Raises BadDocumentError."""
        return tuple(Fields(value, f"{key} in {self.what}") for value in self.items(key))

    def child(self, key: str) -> Fields | None:
        """Return the object *key*, None if it is missing or null. Raises BadDocumentError."""
        value = self._value.get(key)
        return None if value is None else Fields(value, f"{key} in {self.what}")

    def strings(self, key: str) -> Mapping[str, str]:
        """Return the map of strings *key*, whose keys are data. Raises BadDocumentError."""
        value = self.mapping(key)
        if not all(map(_is_text, (*value, *value.values()))):
            raise self._wrong(key, "a map of strings")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return the map *key*, empty if missing or null. Raises BadDocumentError."""
        value = self._value.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(key, "a map")
        return value

    def _digest(self, key: str, value: object) -> Digest:
        try:
            return Digest.parse(value)
        except BadDigestError as error:
            raise BadDocumentError(f"{self.what}: {key}: {error}") from None

    def _wrong(self, key: str, wanted: str) -> BadDocumentError:
        return BadDocumentError(f"{self.what}: {key} is not {wanted}")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob (image-spec descriptor.md): what, which, how long in bytes."""

    media_type: str
    digest: Digest
    size: int
    fields: Fields

    @property
    def annotations(self) -> Mapping[str, str]:
        """The descriptor's annotations."""
        return self.fields.strings("annotations")


def descriptor(fields: Fields) -> Descriptor:
    """Return the descriptor in *fields*. Raises BadDocumentError."""
    return Descriptor(
        media_type=fields.text("mediaType"),
        digest=fields.digest("digest"),
        size=fields.size("size"),
        fields=fields,
    )


def decode(data: bytes, what: str) -> object:
    """Return the JSON value *data*. Raises BadDocumentError, naming *what* it should be."""
    if len(data) > MAX_DOCUMENT:
        raise BadDocumentError(f"{what} is longer than {MAX_DOCUMENT} bytes")
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise BadDocumentError(f"{what} is not valid JSON: {error}") from None


def _is_text(value: object) -> bool:
    """Return whether *value* is a string that can become bytes and an argument of a program."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in an object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")

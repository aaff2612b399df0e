"""The Digest type: the only way from a string in a document to a name on disk.

A digest comes from an image, so from an attacker. Only what matches image-spec's grammar for
registered algorithms (descriptor.md, "Digests") becomes a Digest; afterwards ``hex`` is safe to
use as a file name.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unionfs.errors import RefusedError

if TYPE_CHECKING:
    from hashlib import _Hash

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_LOWER_HEX = re.compile(r"[0-9a-f]+")


class BadDigestError(RefusedError):
    """A string is not a digest of a registered algorithm."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A content digest: ``algorithm`` (``sha256`` or ``sha512``) and lower-case ``hex``."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Return the Digest that *text* (``algorithm:hex``) spells.

        Raises BadDigestError for anything else: another type, an unknown algorithm, a wrong
        length, upper-case or other characters (image-spec descriptor.md; CVE-2024-3727).
        """
        if not isinstance(text, str):
            raise BadDigestError(f"not a digest: {text!r}")
        algorithm, _, value = text.partition(":")
        length = _HEX_LENGTH.get(algorithm)
        if length is None or len(value) != length or not _LOWER_HEX.fullmatch(value):
            raise BadDigestError(f"not a digest of a known algorithm: {text[:160]!r}")
        return cls(algorithm, value)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the SHA-256 digest of *data*."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def hasher(self) -> _Hash:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def matches(self, hasher: _Hash) -> bool:
        """Return whether *hasher* has seen the content that this digest names."""
        return hasher.hexdigest() == self.hex

    @property
    def short(self) -> str:
        """The first 12 hex digits, as container tools print IDs."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

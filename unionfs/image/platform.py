"""Platforms: what this machine runs, what an image is for, which of several images fits.

Names are Go's GOOS and GOARCH, as image-spec (image-index.md, "platform") wants them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from unionfs.errors import UsageError

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64le", ""),
}
_SAME = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm"}
_SYSTEMS = frozenset(("darwin", "freebsd", "linux", "windows"))
_ARCHITECTURES = frozenset(
    ("386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x")
)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class BadPlatformError(UsageError):
    """A word does not name a platform."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform; an empty ``variant`` is the plain one of its architecture."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def rank(self, offered: Platform) -> int | None:
        """Return how well *offered* serves this wanted platform: 0 is best, None not at all.

        A 32-bit ARM runs what its predecessors ran; for other architectures a variant that is not
        asked for by name may need a newer processor, so the plain one comes first.
        """
        if (self.os, self.architecture) != (offered.os, offered.architecture):
            return None
        mine, other = self._plain_variant(), offered._plain_variant()
        if mine == other:
            return 0
        if self.architecture == "arm":
            older = _arm_version(mine) - _arm_version(other)
            return older if older >= 0 else None
        if not mine:
            return 1 + _arm_version(other)
        return 1 if not other else None

    def _plain_variant(self) -> str:
        """Return the variant, empty for the one that is every processor's."""
        plain = {"arm64": "v8", "amd64": "v1"}.get(self.architecture)
        return "" if self.variant == plain else self.variant


def host() -> Platform:
    """Return the platform of this machine."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse_platform(text: str) -> Platform:
    """Return the platform that ``os/arch[/variant]``, ``arch`` or ``os`` names.

    A word alone is what it is known as, the rest is this machine's (containerd's rule). Raises
    BadPlatformError.
    """
    words = text.split("/")
    if not 1 <= len(words) <= 3 or not all(_WORD.fullmatch(word) for word in words):
        raise BadPlatformError(f"not a platform: {text!r} (like linux/arm64 or linux/arm/v7)")
    if len(words) == 1:
        words = _completed(words[0])
    architecture = _SAME.get(words[1], words[1])
    return Platform(words[0], architecture, words[2] if len(words) > 2 else "")


def _completed(word: str) -> list[str]:
    if word in _SYSTEMS:
        here = host()
        return [word, here.architecture, here.variant]
    if _SAME.get(word, word) in _ARCHITECTURES:
        return ["linux", word]
    raise BadPlatformError(f"not a platform: {word!r} is neither a system nor an architecture")


def _arm_version(variant: str) -> int:
    """Return the number in a variant like ``v7``; the plain ``arm`` is v7 (containerd's rule)."""
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdigit() and len(digits) < 3 else 7

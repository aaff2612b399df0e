"""How an image is to be stored, whether it comes from files or from a registry."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from unionfs.image.platform import Platform, host, parse_platform
from unionfs.image.progress import OneAtATime, Progress, Quiet
from unionfs.store.names import image_name
from unionfs.tarball.limits import Limits


class Wishes(TypedDict, total=False):
    """What a caller may say; nothing, or None, is as good as not to say it.

    ``name`` (``NAME[:TAG]``) replaces the names that the source gives it. ``platform``
    (``os/arch[/variant]``) chooses among several; without it, this machine's is wanted. With
    ``keep_blobs`` (the default) compressed layers are kept as they came as well.
    """

    name: str | None
    platform: str | None
    limits: Limits | None
    progress: Progress | None
    keep_blobs: bool


class Terms(NamedTuple):
    """What was wished for, understood; *progress* may hear several threads."""

    name: str | None
    platform: Platform
    limits: Limits
    progress: Progress
    keep_blobs: bool


def understood(wishes: Wishes) -> Terms:
    """Return what *wishes* mean, the name in full. Raises BadNameError, BadPlatformError."""
    name, platform = wishes.get("name"), wishes.get("platform")
    return Terms(
        name=None if name is None else image_name(name),
        platform=host() if platform is None else parse_platform(platform),
        limits=wishes.get("limits") or Limits(),
        progress=OneAtATime(wishes.get("progress") or Quiet()),
        keep_blobs=wishes.get("keep_blobs", True),
    )

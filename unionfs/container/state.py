"""What is mounted where, read from the mount table at the moment of asking.

Nothing about mounts is stored, so a crash cannot leave a wrong record. A mount says what it is in
its source field (``MountConfig.fsname``): ``unionfs:ID`` for a container, ``unionfs:ID:run`` where
``run`` made it for itself, ``unionfs:image:HEX`` for an image with no container.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unionfs.daemon.client import KIND
from unionfs.syscalls.mount import mount_table

_PREFIX = "unionfs:"
_IMAGE = "image:"
_RUN = ":run"


@dataclass(frozen=True, slots=True)
class Mounted:
    """One mount of ours: its mount point, whether ``run`` made it, whether it is read-only."""

    target: bytes
    transient: bool
    read_only: bool

    @property
    def shown(self) -> str:
        """The mount point as text for people."""
        return os.fsdecode(self.target)


def container_fsname(container_id: str, *, transient: bool = False) -> str:
    """Return the source name of the mounts of a container."""
    return _PREFIX + container_id + (_RUN if transient else "")


def image_fsname(image_hex: str) -> str:
    """Return the source name of the mounts of an image with no container."""
    return _PREFIX + _IMAGE + image_hex


def container_of_fsname(source: str) -> str | None:
    """Return the ID of the container that a mount with this source name shows, if it does."""
    subject = source.removeprefix(_PREFIX).removesuffix(_RUN)
    return subject if source.startswith(_PREFIX) and not subject.startswith(_IMAGE) else None


def image_of_fsname(source: str) -> str | None:
    """Return the digits of the ID of the image that a mount with this source name shows alone."""
    subject = source.removeprefix(_PREFIX + _IMAGE)
    return subject if subject != source else None


class MountState:
    """Our mounts of one moment, by what they show."""

    def __init__(self, containers: Mapping[str, Sequence[Mounted]]) -> None:
        self._found = containers

    def of_container(self, container_id: str) -> Sequence[Mounted]:
        """Return the mounts of a container, in mount order."""
        return self._found.get(container_id, ())

    def of_image(self, image_hex: str) -> Sequence[Mounted]:
        """Return the mounts of an image that no container stands behind."""
        return self._found.get(_IMAGE + image_hex, ())


def read_state(table: str = "/proc/self/mountinfo") -> MountState:
    """Return what of ours the mount table says is mounted now."""
    found = defaultdict(list)
    for entry in mount_table(table):
        source = os.fsdecode(entry.source)
        if entry.kind != KIND or not source.startswith(_PREFIX):
            continue
        subject = source.removeprefix(_PREFIX)
        options = entry.options.split(b",") + entry.super_options.split(b",")
        mounted = Mounted(entry.target, subject.endswith(_RUN), b"ro" in options)
        found[subject.removesuffix(_RUN)].append(mounted)
    return MountState(found)

"""Inode numbers of files that are on several filesystems, each its own number in the mount.

Where all layers are on one filesystem, a file's number is its inode's. Where they are on several, a
number has the filesystem's place in the stack as well: above 27 bits of the inode's number, or
where that is longer, in the top byte (as overlayfs's ``xino``, which has it there always). So most
numbers have 32 bits, as on most local filesystems. stat(2) and readdir(3) of a 32-bit program
without large files fail for others (EOVERFLOW; fs/stat.c, cp_new_stat()).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

NEAR_BITS = 27  # of an inode's number that has its place next to it
FAR_BITS = 56  # of one that has it in the top byte
FILESYSTEMS = 0xFE  # that have a place
_NEAR_PLACES = 1 << (32 - NEAR_BITS)
_FIRST = 0xFE  # the first one's top byte: with 0 its long numbers could be short ones of others


class Place(NamedTuple):
    """What the inode numbers of a filesystem get added: *near* to short ones, *far* to others."""

    near: int
    far: int


class Numbers:
    """The places of a mount's filesystems. They never change, only get more.

    ``are_near``: short inode numbers have their place next to them. That is settled by ``see``
    the first time: one filesystem alone needs no places, and those that come later (by a rebase)
    have theirs in the top byte, since the first one's numbers are what they are.
    """

    def __init__(self) -> None:
        self.are_near = False
        self._places: dict[int, Place] = {}

    def see(self, devices: Iterable[int]) -> None:
        """Give each of *devices* (``st_dev``) that has none a place, as long as there are some."""
        fresh = [device for device in dict.fromkeys(devices) if device not in self._places]
        if not self._places:
            self.are_near = len(fresh) > 1
        for device in fresh[: FILESYSTEMS - len(self._places)]:
            self._places[device] = self._place(len(self._places))

    def _place(self, count: int) -> Place:
        if not self.are_near:
            return Place(count << FAR_BITS, count << FAR_BITS)
        far = (count or _FIRST) << FAR_BITS
        return Place(count << NEAR_BITS if count < _NEAR_PLACES else far, far)

    def place(self, device: int) -> Place | None:
        """Return the place of *device*, None if it has none."""
        return self._places.get(device)

    def of(self, device: int, ino: int) -> int:
        """Return the number of the inode *ino* on *device*; 0 if there is none for it."""
        place = self._places.get(device)
        if place is None or not 1 < ino < 1 << FAR_BITS:
            return 0
        return (place.near if ino < 1 << NEAR_BITS else place.far) | ino

    def inode(self, number: int) -> int:
        """Return the inode that *number*, made by ``of``, stands for."""
        near = self.are_near and number < 1 << 32
        return number & ((1 << (NEAR_BITS if near else FAR_BITS)) - 1)

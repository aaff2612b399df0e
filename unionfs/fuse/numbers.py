"""Inode numbers of files that are on several filesystems, each its own number in the mount.

Where all layers are on one filesystem, a file's number is its inode's. Where they are on several, a
number has the filesystem's place in the stack as well: in the upper of 32 bits, in as few of them
as there are filesystems, or where the inode's number is too long for that, in the top byte (as
overlayfs's ``xino``, which has it at the top always). So most numbers have 32 bits, as on most
local filesystems. stat(2) and readdir(3) of a 32-bit program without large files fail for others
(EOVERFLOW).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

SHORT = 32  # bits of a number that every program can take
FAR_BITS = 56  # of an inode's number that has its place in the top byte
FILESYSTEMS = 0x7E  # that have a place
_FIRST = 0x7F  # top byte of the first one's numbers that others' short ones could be
_MOST_NEAR = 5  # bits that places may take of a short number: what is left is of use


class Place(NamedTuple):
    """What the inode numbers of a filesystem get added: *near* to short ones, *far* to others.

    But for those of the first one (*near* is 0) that are longer than SHORT: they get nothing.
    """

    near: int
    far: int


class Numbers:
    """The places of a mount's filesystems. They never change, only get more.

    ``near_bits``: inode numbers of so many bits have their place next to them. That is settled by
    ``see`` the first time, since numbers that were told are what they are. One filesystem alone
    needs no places. One that comes later (by a rebase) has its place in the top byte alone, unless
    there is one of the short ones left.
    """

    def __init__(self) -> None:
        self.near_bits = SHORT
        self._places: dict[int, Place] = {}

    def see(self, devices: Iterable[int]) -> None:
        """Give each of *devices* (``st_dev``) that has none a place, as long as there are some."""
        fresh = [device for device in dict.fromkeys(devices) if device not in self._places]
        if not self._places:
            self.near_bits = SHORT - min(max(len(fresh) - 1, 0).bit_length(), _MOST_NEAR)
        for device in fresh[: FILESYSTEMS - len(self._places)]:
            self._places[device] = self._place(len(self._places))

    def _place(self, count: int) -> Place:
        if not count:
            return Place(0, 0 if self.near_bits == SHORT else _FIRST << FAR_BITS)
        far = count << FAR_BITS
        return Place(count << self.near_bits if count >> SHORT - self.near_bits == 0 else far, far)

    def place(self, device: int) -> Place | None:
        """Return the place of *device*, None if it has none."""
        return self._places.get(device)

    def of(self, device: int, ino: int) -> int:
        """Return the number of the inode *ino* on *device*; 0 if there is none for it.

        ``_number.c`` does the same (``number_made()``), and the opposite as ``inode``.
        """
        place = self._places.get(device)
        if place is None or not 1 < ino < 1 << FAR_BITS:
            return 0
        if ino >> self.near_bits == 0:
            return place.near | ino
        if not place.near and ino >> SHORT:
            return ino  # of the first one, and like no other's
        return place.far | ino

    def inode(self, number: int) -> int:
        """Return the inode that *number*, made by ``of``, stands for."""
        return number & ((1 << (FAR_BITS if number >> SHORT else self.near_bits)) - 1)

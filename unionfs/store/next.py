"""What a rebase prepares beside what a container has: ``next`` in its directory, and who decides.

Nothing is mounted: the database decides. ``image`` says for which image ``upper`` and ``work`` are,
and if the container's row names that, they are put in place; else they are thrown away.

The container is mounted: its daemon decides, by renaming ``offered`` to ``taken``, since from then
on it writes to the new upper. The row follows. Whoever wants it undone takes ``offered`` away, and
if that was there, the daemon cannot have it any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from unionfs.digest import Digest
from unionfs.store.layout import Layout

_NEXT = "next"
_IMAGE, _OFFERED, _TAKEN = "image", "offered", "taken"
SWAPPED = ("upper", "work")


class Next:
    """The directory *path* of a container, there or not."""

    def __init__(self, home: str) -> None:
        self.path = os.path.join(home, _NEXT)
        self.offered = os.path.join(self.path, _OFFERED)
        self.taken = os.path.join(self.path, _TAKEN)

    def is_there(self) -> bool:
        """Return whether a rebase is under way, or was cut short."""
        return os.path.isdir(self.path)

    def prepared(self, name: str) -> str:
        """Return where the directory *name* (one of SWAPPED) is prepared."""
        return os.path.join(self.path, name)

    def decided(self, row: str) -> Digest | None:
        """Return the image for which this is, None if it does not count and never will.

        *row* is the image's ID that the database has. Raises OSError.
        """
        image = _read(os.path.join(self.path, _IMAGE))
        if image and image == row:
            return Digest.parse(image)
        try:
            os.unlink(self.offered)
        except FileNotFoundError:
            taken = _read(self.taken)
            return Digest.parse(taken) if taken else None
        return None


def note_of(image_id: Digest, *, offered: bool) -> tuple[str, bytes]:
    """Return name and content of the file in ``next`` that says for which image it is."""
    return _OFFERED if offered else _IMAGE, str(image_id).encode()


def taken_by(layout: Layout, image_id: Digest) -> Iterator[str]:
    """Yield the IDs of the containers that are on the image, which their rows do not say yet."""
    for container_id in os.listdir(layout.containers):
        if _read(Next(layout.container(container_id)).taken) == str(image_id):
            yield container_id


def _read(path: str) -> str:
    """Return what the file *path* says; nothing if it is not there."""
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""

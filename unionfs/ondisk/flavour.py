"""The two spellings of overlayfs's attributes, and which names belong to a driver.

``trusted.overlay.*`` is what the kernel writes for a mount with CAP_SYS_ADMIN, ``user.overlay.*``
what it writes with ``-o userxattr`` (overlayfs.rst, "User xattr"). An attribute that a user sets
*through* a mount with a driver's prefix is stored with the prefix doubled, as the kernel does since
6.7 (overlayfs.rst, "Nesting overlayfs mounts"), and shown without the escape.
"""

from __future__ import annotations

import enum

ESCAPE = b"overlay."
FUSE_OVERLAYFS_PREFIX = b"user.fuseoverlayfs."
OWN_PREFIX = b"user.unionfs."


class Flavour(enum.Enum):
    """Which attribute namespace an upper and its marks use."""

    TRUSTED = b"trusted.overlay."
    USER = b"user.overlay."

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.opaque = prefix + b"opaque"
        self.redirect = prefix + b"redirect"
        self.origin = prefix + b"origin"
        self.born = prefix + b"unionfs.born"  # ours: what the origin's handle would lead to
        self.impure = prefix + b"impure"
        self.nlink = prefix + b"nlink"
        self.upper = prefix + b"upper"
        self.metacopy = prefix + b"metacopy"
        self.whiteout = prefix + b"whiteout"
        self.uuid = prefix + b"uuid"
        self.protattr = prefix + b"protattr"
        self._known = frozenset(
            (
                self.opaque, self.redirect, self.origin, self.born, self.impure, self.nlink,
                self.upper, self.metacopy, self.whiteout, self.uuid, self.protattr,
            )
        )  # fmt: skip

    def to_disk(self, name: bytes) -> bytes:
        """Return the on-disk name for the attribute that a user of the mount calls *name*."""
        if name.startswith(self.prefix):
            return self.prefix + ESCAPE + name[len(self.prefix) :]
        return name

    def from_disk(self, name: bytes) -> bytes | None:
        """Return what a user of the mount calls the on-disk *name*; None for the driver's own."""
        if not name.startswith(self.prefix):
            return name
        rest = name[len(self.prefix) :]
        if rest.startswith(ESCAPE):
            return self.prefix + rest[len(ESCAPE) :]
        return None

    def is_unknown(self, name: bytes) -> bool:
        """Return whether *name* is a mark that overlayfs (Linux 6.18) does not know, nor do we."""
        if name in self._known or not name.startswith(self.prefix):
            return False
        return not name.startswith(self.prefix + ESCAPE)

    def is_reserved(self, name: bytes) -> bool:
        """Return whether no user of the mount may set *name*: the next mount would obey it."""
        return name.startswith(FUSE_OVERLAYFS_PREFIX)


def is_driver_name(name: bytes) -> bool:
    """Return whether a union driver would give meaning to an attribute called *name*.

    True for both kernel flavours, for fuse-overlayfs's, for containers/storage's override and for
    our own: what a layer from outside must not be able to say (an importer escapes or drops these).
    """
    return (
        name.startswith(Flavour.TRUSTED.prefix)
        or name.startswith(Flavour.USER.prefix)
        or name.startswith(FUSE_OVERLAYFS_PREFIX)
        or name.startswith(b"user.containers.override_")
        or name.startswith(b"security.fuseoverlayfs.")
        or name.startswith(OWN_PREFIX)
    )

"""What must hold before something is mounted: the machine can, and the mount point may be used."""

from __future__ import annotations

import errno
import os
import stat

from unionfs.daemon import client
from unionfs.errors import ConflictError, NotFoundError, UnavailableError
from unionfs.options import MountConfig

DEVICE = "/dev/fuse"
_FUSE_CONF = "/etc/fuse.conf"
_NO_DEVICE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


class BadMountPointError(NotFoundError):
    """The mount point is not there, or is no directory."""


class NotEmptyError(ConflictError):
    """The mount point has something in it that would be hidden."""


class AlreadyMountedError(ConflictError):
    """Something is mounted there already."""


class NoFuseError(UnavailableError):
    """The machine, or this user on it, cannot mount with FUSE."""


def prepare(target: bytes, *, allow_nonempty: bool) -> bytes:
    """Return the resolved path of the directory *target*, ready to be mounted on.

    A stale mount of a killed daemon is cleaned away first. Raises BadMountPointError,
    AlreadyMountedError, NotEmptyError, OSError.
    """
    point = client.resolve(target)
    shown = os.fsdecode(target)
    if client.stale(point):
        client.unmount(point, lazy=True)
    status = _stat(point, shown)
    if not stat.S_ISDIR(status.st_mode):
        raise BadMountPointError(f"the mount point {shown} is not a directory")
    if point == b"/":  # whoever is running keeps the root that he has, and nobody else comes there
        raise BadMountPointError("nothing would show a mount on /: mount elsewhere, and chroot")
    if client.is_mount_point(point) and client.is_ours(point):
        raise AlreadyMountedError(f"{shown} is already a mount of unionfs: unmount it first")
    if not allow_nonempty and os.listdir(point):
        raise NotEmptyError(f"the mount point {shown} is not empty")
    return point


def check_machine(config: MountConfig) -> None:
    """Raise NoFuseError, saying what to do, if *config* cannot be mounted by this user here."""
    _check_device()
    if os.geteuid() != 0:
        _check_helper()
        if config.allow_other or config.allow_root:
            _check_allowed_to_others()


def _stat(point: bytes, shown: str) -> os.stat_result:
    try:
        os.statvfs(point)  # a dead mount's stat may still come from the kernel's cache
        return os.stat(point)
    except FileNotFoundError:
        raise BadMountPointError(f"the mount point {shown} does not exist") from None
    except OSError as error:
        if error.errno in client.DEAD:
            raise AlreadyMountedError(
                f"{shown} is a dead mount of another program: unmount it first"
            ) from None
        raise


def _check_device() -> None:
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        raise NoFuseError(
            f"no permission to open {DEVICE}: it is usually for everybody (chmod 0666 {DEVICE}); "
            "a container needs --device /dev/fuse"
        ) from None
    except OSError as error:
        if error.errno not in _NO_DEVICE:
            raise
        raise NoFuseError(
            f"{DEVICE} is missing: load the kernel module (modprobe fuse), "
            "or give the container the device (--device /dev/fuse)"
        ) from None


def _check_helper() -> None:
    if client.fusermount() is None:
        raise NoFuseError(
            "fusermount3 is not in PATH and only root mounts without it: install the package fuse3"
        )


def _check_allowed_to_others() -> None:
    """An ordinary user may open a mount to others only where the administrator said so."""
    try:
        with open(_FUSE_CONF, "rb") as conf:
            allowed = any(line.strip() == b"user_allow_other" for line in conf)
    except OSError:
        allowed = False
    if not allowed:
        raise NoFuseError(
            f"allow_other and allow_root need the line user_allow_other in {_FUSE_CONF}"
        )

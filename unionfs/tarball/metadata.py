"""Owners, modes, attributes and times of what a layer tar describes, and what is not kept.

A layer must not speak the union driver's on-disk language. Attributes of the store's own flavour
(``trusted.overlay.*`` in root's store) are stored under their escaped name: the mount then shows
them as the image said, and the driver gives them no meaning. Other drivers' attributes have no such
escape here, and are dropped with a warning. Whatever the kernel will not take (a bad capability, an
attribute too large, ``trusted.*`` without the privilege) is dropped with a warning too: it must not
fail an import half way.
"""

from __future__ import annotations

import errno
import os
import re
import stat

from unionfs.ondisk import acl, override
from unionfs.ondisk.flavour import Flavour, is_driver_name
from unionfs.ondisk.override import Override, Spelling, names_in
from unionfs.syscalls import xattr
from unionfs.syscalls.at import PathFd, name_path, proc_path
from unionfs.tarball import header
from unionfs.tarball.header import Entry, shown
from unionfs.tarball.names import UnsafeEntryError
from unionfs.tarball.tree import Settings

ACL_PREFIX = b"system.posix_acl_"
NO_ID = 0xFFFFFFFF  # (uid_t)-1: "leave as it is" to chown(2)

_NAMESPACE = re.compile(rb"(user|trusted|security|system)\.[^\0]+", re.DOTALL)
_NOT_TAKEN = frozenset(
    (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.E2BIG)
)
_XATTR_NAME_MAX = 255
_CAPABILITY = b"security.capability"
_CAPABILITY_SIZES = {b"\2": 20, b"\3": 24}  # by revision (linux/capability.h)
_KINDS = {
    header.REGULAR: stat.S_IFREG,
    header.SYMLINK: stat.S_IFLNK,
    header.CHARACTER: stat.S_IFCHR,
    header.BLOCK_DEVICE: stat.S_IFBLK,
    header.FIFO: stat.S_IFIFO,
}
_ROOM = 1 << 20


class Warnings:
    """Counts what was not kept, by kind, with the first example of each."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, example: bytes) -> None:
        """Count one more of *kind*."""
        count, first = self._seen.get(kind, (0, ""))
        self._seen[kind] = (count + 1, first or shown(example))

    def lines(self) -> tuple[str, ...]:
        """Return one line a kind."""
        return tuple(f"{kind}: {n}, first {first}" for kind, (n, first) in self._seen.items())


class Metadata:
    """Applies metadata by descriptors.

    *spelling* says how owners, modes and types are written down, None: files are given them.
    """

    def __init__(self, flavour: Flavour, spelling: Spelling | None, warnings: Warnings) -> None:
        self._spelling = spelling
        self._flavour = flavour
        self._names = names_in(flavour, spelling)
        self._warnings = warnings

    def check(self, entry: Entry) -> None:
        """Refuse owners that no file can have. Raises UnsafeEntryError."""
        if not (0 <= entry.uid < NO_ID and 0 <= entry.gid < NO_ID):
            raise UnsafeEntryError(
                f"layer entry {shown(entry.name)} has an impossible owner {entry.uid}:{entry.gid}"
            )

    def on_file(self, fd: int, entry: Entry) -> None:
        """Give the open regular file *fd* what *entry* says. Raises OSError."""
        if self._spelling is None:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
        else:
            self._write_down(fd, entry)
        if entry.xattrs:
            self._set_all(fd, entry, entry.xattrs)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def on_directory(self, fd: int, entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
        """Give the directory *fd* owner and attributes; return the ACLs, to be set at the end.

        Raises OSError.
        """
        if self._spelling is None:
            os.fchown(fd, entry.uid, entry.gid)
        if not entry.xattrs:
            return ()
        acls = {k: v for k, v in entry.xattrs.items() if k.startswith(ACL_PREFIX)}
        self._set_all(fd, entry, {k: v for k, v in entry.xattrs.items() if k not in acls})
        return tuple(acls.items())

    def finish_directory(self, fd: int, path: bytes, settings: Settings) -> None:
        """Set a directory's mode, and the ACLs that ``on_directory`` returned. Raises OSError."""
        if self._spelling is None:
            os.fchmod(fd, settings.mode)
        for name, value in settings.acls:
            self._set(fd, name, value, path)
        if self._spelling is not None:
            mode = _with_acl(settings.mode, dict(settings.acls))
            shows = Override(settings.uid, settings.gid, mode, stat.S_IFDIR)
            override.write(fd, self._spelling, shows)
            os.fchmod(fd, override.disk_mode(stat.S_IFDIR, mode))

    def on_name(self, dir_fd: int, name: bytes, entry: Entry) -> None:
        """Give a symbolic link, fifo or device what *entry* says; nothing is followed.

        Raises OSError.
        """
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            if self._spelling is None:
                os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
                if entry.kind != header.SYMLINK:
                    os.chmod(proc_path(handle), entry.mode)  # this very file, whatever it is
            else:
                self._write_down(PathFd(handle), entry)
            if entry.xattrs:
                self._set_all(name_path(dir_fd, name), entry, entry.xattrs)
            times = (entry.mtime_ns, entry.mtime_ns)
            os.utime(name, ns=times, dir_fd=dir_fd, follow_symlinks=False)
        finally:
            os.close(handle)

    def _write_down(self, target: int, entry: Entry) -> None:
        """Let the file *target*, which is no directory, be shown as what *entry* says."""
        assert self._spelling is not None
        kind = _KINDS[entry.kind]
        device = 0
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            device = os.makedev(entry.major, entry.minor)
        mode = 0o777 if kind == stat.S_IFLNK else _with_acl(entry.mode, entry.xattrs or {})
        override.write(target, self._spelling, Override(entry.uid, entry.gid, mode, kind, device))
        if kind == stat.S_IFREG:
            os.fchmod(target, override.disk_mode(kind, mode))

    def _set_all(self, target: int | bytes, entry: Entry, wanted: dict[bytes, bytes]) -> None:
        for name, value in wanted.items():
            if self._flavour.to_disk(name) == name and is_driver_name(name):
                self._warnings.add("attribute of a union driver dropped", entry.name)
            elif name in acl.ON_XFS:  # or files would inherit it that say nothing of it
                self._warnings.add("ACL in XFS's own form dropped", entry.name)
            else:
                self._set(target, name, value, entry.name)

    def _set(self, target: int | bytes, name: bytes, value: bytes, path: bytes) -> None:
        stored = self._names.to_disk(name)
        if len(stored) > _XATTR_NAME_MAX or not _NAMESPACE.fullmatch(stored):
            return self._warnings.add(f"attribute {_shown(name)} not kept", path)
        try:
            if stored == name or _is_worth_keeping(name, value):
                xattr.set_(target, stored, value)
        except OSError as error:
            # ext4 says ENOSPC for an attribute that is too large for its block, disk full or not.
            small = error.errno == errno.ENOSPC and _has_room(target)
            if error.errno not in _NOT_TAKEN and not small:
                raise
            self._warnings.add(f"attribute {_shown(name)} not kept", path)


def _with_acl(mode: int, xattrs: dict[bytes, bytes]) -> int:
    """Return *mode* as a filesystem changes it when it is given the ACL in *xattrs*, if any."""
    try:
        entries = acl.decode(xattrs[acl.ACCESS])
    except (KeyError, OSError):
        return mode
    return mode & ~0o777 | acl.mode_of(entries) if entries else mode


def _is_worth_keeping(name: bytes, value: bytes) -> bool:
    """Return whether the kernel would keep an attribute that it does not see here.

    It keeps no ACL that only says what the mode says. Raises its EINVAL for an ACL or a capability
    that is none.
    """
    if name.startswith(ACL_PREFIX):
        entries = acl.decode(value)
        return bool(entries) and (name != acl.ACCESS or acl.is_extended(entries))
    if name == _CAPABILITY and _CAPABILITY_SIZES.get(value[3:4]) != len(value):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return True


def _shown(name: bytes) -> str:
    """Return *name* for a warning, cut so that a hostile layer cannot make many long kinds."""
    namespace = name.partition(b".")[0]
    known = namespace in (b"user", b"trusted", b"security", b"system")
    return f"{namespace.decode()}.*" if known else "of no namespace"


def _has_room(target: int | bytes) -> bool:
    place = target if isinstance(target, int) else target.rpartition(b"/")[0]
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize > _ROOM and found.f_favail > 0

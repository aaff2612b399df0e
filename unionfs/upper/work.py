"""The work directory: temporary names, whiteouts in stock, and the lock that marks it in use."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from unionfs.errors import ConflictError, NotFoundError, RefusedError
from unionfs.ondisk.whiteout import make_whiteout, make_whiteout_file, share_whiteout
from unionfs.syscalls import xattr
from unionfs.syscalls.at import RENAME_NOREPLACE, exists, names_in, open_dir, renameat2
from unionfs.syscalls.remove import remove_tree
from unionfs.union.layer import Layer

_WORK = b"work"  # the kernel's names inside workdir (fs/overlayfs/super.c)
_INDEX = b"index"
_MARKS = b"marks"  # ours
_VOLATILE = b"volatile"
_INCOMPAT = b"incompat"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATIENCE = 10.0  # seconds that a daemon may take to leave


class UpperInUseError(ConflictError):
    """Another mount has this upper or work directory."""


class BadWorkDirError(NotFoundError):
    """The work directory is missing, unusable or on another filesystem than the upper."""


class IncompatibleUpperError(RefusedError):
    """The work directory says that who does not know a feature must not mount the upper."""


class VolatileUpperError(IncompatibleUpperError):
    """The upper was last mounted volatile and not unmounted cleanly: it may have lost data."""


def claim(upper: Layer, *, wait: float = _PATIENCE) -> None:
    """Lock the directory *upper* until it is closed, waiting for a daemon that is leaving.

    The work directory's lock does not do: another mount may have a work directory of its own, and
    each would take what the other changes for what it knows. Raises UpperInUseError, OSError.
    """
    _lock(upper.root.fd(), "upperdir", upper.path, wait)


def _lock(fd: int, what: str, path: bytes, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise UpperInUseError(
                    f"{what} {os.fsdecode(path)} is in use by another mount"
                ) from None
        time.sleep(0.02)


class WorkDir:
    """``workdir``, held under a flock(2) while it is open.

    ``fd`` is its ``work`` directory, where temporary names are (-1 where nothing is to be written);
    ``path`` is for messages. ``mark`` is the attribute that makes a file a whiteout (empty: devices
    only), ``as_files`` whether whiteouts have to be such files: known once ``stock`` was called.
    """

    def __init__(self, path: bytes, *, wait: float = _PATIENCE, writable: bool = True) -> None:
        """Open and lock *path*, waiting up to *wait* seconds for a daemon that is leaving.

        Not *writable*, for a read-only mount: only the index is looked at, and nothing is changed.
        Raises BadWorkDirError, UpperInUseError, IncompatibleUpperError.
        """
        self.path = path
        self._serial = 0
        self._whiteout = b""
        self.mark = b""
        self.as_files = False
        try:
            self._root = os.open(path, _OPEN)
        except OSError as error:
            raise BadWorkDirError(f"workdir {os.fsdecode(path)}: {error.strerror}") from None
        try:
            _lock(self._root, "workdir", path, wait)
            self._see_index()
            self.fd = self._enter() if writable else -1
        except OSError as error:
            os.close(self._root)
            raise BadWorkDirError(f"workdir {os.fsdecode(path)}: {error.strerror}") from None
        except BaseException:
            os.close(self._root)
            raise
        self.device = os.fstat(self._root).st_dev

    def _enter(self) -> int:
        """Return a descriptor of the ``work`` directory, emptied of what a killed daemon left."""
        try:
            os.mkdir(_WORK, 0o700, dir_fd=self._root)
        except FileExistsError:
            pass
        fd = self._open_work()
        try:
            self._see_incompatible(fd)
            for name in names_in(fd):
                discard(fd, name)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _see_incompatible(self, work_fd: int) -> None:
        """Raise what the marks in the ``work`` directory demand, as the kernel does (overlayfs.rst,
        "Volatile mount"): whatever they are called.
        """
        where = os.fsdecode(self.path)
        if exists(work_fd, _INCOMPAT + b"/" + _VOLATILE):
            raise VolatileUpperError(
                f"workdir {where} was mounted volatile and not unmounted"
                " cleanly; delete its work/incompat/volatile if the data is good"
            )
        try:
            fd = open_dir(work_fd, _INCOMPAT)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            for name in names_in(fd):
                feature = os.fsdecode(name)
                raise IncompatibleUpperError(f"workdir {where}: incompatible feature {feature}")
        finally:
            os.close(fd)

    def _see_index(self) -> None:
        """Raise BadWorkDirError for an ``index`` that is no directory."""
        try:
            st = os.stat(_INDEX, dir_fd=self._root, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(st.st_mode):
            raise BadWorkDirError(f"workdir {os.fsdecode(self.path)}: its index is no directory")

    def _open_work(self) -> int:
        """Return a descriptor of the ``work`` directory, which passes nothing of its own on.

        A default ACL or set-group-ID of the user's ``workdir`` would come to be on every new file.
        The kernel leaves the directory with mode 0, which keeps out who is not root.
        """
        try:
            fd = open_dir(self._root, _WORK)
        except PermissionError:
            os.chmod(_WORK, 0o700, dir_fd=self._root)
            fd = open_dir(self._root, _WORK)
        try:
            os.fchmod(fd, 0o700)
            for name in (b"system.posix_acl_default", b"system.posix_acl_access"):
                if xattr.get(fd, name) is not None:
                    xattr.remove(fd, name)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def open_index(self) -> int:
        """Return a descriptor of the ``index`` directory, made if need be. Raises OSError."""
        if not self.has_index():
            os.mkdir(_INDEX, 0o700, dir_fd=self._root)
        return open_dir(self._root, _INDEX)

    def has_index(self) -> bool:
        """Return whether an ``index`` directory is there."""
        return exists(self._root, _INDEX)

    def open_marks(self) -> int:
        """Return a descriptor of the ``marks`` directory, made if need be. Raises OSError."""
        if not self.has_marks():
            os.mkdir(_MARKS, 0o700, dir_fd=self._root)
        return open_dir(self._root, _MARKS)

    def has_marks(self) -> bool:
        """Return whether a ``marks`` directory is there."""
        return exists(self._root, _MARKS)

    def mark_volatile(self) -> None:
        """Leave the kernel's mark that a crash from now on may lose data (overlayfs.rst)."""
        os.mkdir(_INCOMPAT, 0o700, dir_fd=self.fd)
        os.mkdir(_INCOMPAT + b"/" + _VOLATILE, 0o700, dir_fd=self.fd)

    def temporary(self) -> bytes:
        """Return a name that is free in ``fd``."""
        self._serial += 1
        return b"#%x" % self._serial

    def stock(self) -> None:
        """Have the whiteout that others are links of. Raises OSError.

        Where the filesystem makes no device 0:0 (the kernel's overlayfs gives EPERM for it,
        fs/overlayfs/dir.c, ovl_mknod()), it is a file with the attribute ``mark``.
        """
        if self._whiteout:
            return
        fresh = self.temporary()
        try:
            make_whiteout(self.fd, fresh)
        except PermissionError:
            if not self.mark:
                raise
            make_whiteout_file(self.fd, fresh, self.mark)
            self.as_files = True
        self._whiteout = fresh

    def shared_whiteout(self) -> bytes:
        """Return the name in ``fd`` of the whiteout in stock; empty where a link of it does not do.

        So it is where there is none, and where directories with whiteouts have to be marked.
        """
        return b"" if self.as_files else self._whiteout

    def whiteout(self, dir_fd: int, name: bytes) -> None:
        """Put a whiteout at the free name *name* in *dir_fd*. Raises OSError.

        One inode is linked again and again, as the kernel does; a new one is made when the
        filesystem allows no more links. Outside ``fd``: through ``upper.whiteouts``, which marks
        the directory where that has to be.
        """
        self.stock()
        try:
            share_whiteout(self.fd, self._whiteout, dir_fd, name)
        except OSError as error:
            if error.errno not in (errno.EMLINK, errno.EPERM):
                raise
            self._make_one(dir_fd, name)
            if error.errno == errno.EMLINK:
                clear_away(self.fd, self._whiteout)
                self._whiteout = b""

    def _make_one(self, dir_fd: int, name: bytes) -> None:
        """Make a whiteout of its own at the free name *name* in *dir_fd*, in one step."""
        if not self.as_files:
            make_whiteout(dir_fd, name)
            return
        temporary = self.temporary()
        make_whiteout_file(self.fd, temporary, self.mark)
        try:
            renameat2(self.fd, temporary, dir_fd, name, RENAME_NOREPLACE)
        except BaseException:
            clear_away(self.fd, temporary)
            raise

    def cover(self, dir_fd: int, name: bytes) -> None:
        """Replace the file (no directory) *name* in *dir_fd* by a whiteout in one step."""
        temporary = self.temporary()
        self.whiteout(self.fd, temporary)
        try:
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=dir_fd)
        except BaseException:
            clear_away(self.fd, temporary)
            raise

    def close(self) -> None:
        """Remove what is temporary, give up the lock."""
        try:
            if self.fd >= 0:
                for name in names_in(self.fd):
                    discard(self.fd, name)
        finally:
            self.leave()

    def leave(self) -> None:
        """Give up the lock; what is temporary stays, for who is to remove it all."""
        if self.fd >= 0:
            os.close(self.fd)
        os.close(self._root)


def discard(dir_fd: int, name: bytes) -> None:
    """Remove *name* from *dir_fd* with all that is below, never following a link.

    Raises OSError. What is gone already is fine.
    """
    try:
        remove_tree(dir_fd, name)
    except FileNotFoundError:
        pass


def clear_away(dir_fd: int, name: bytes) -> None:
    """Remove what a change has no more use for, as ``discard``, if that can be done.

    The change itself is done or has failed for a reason of its own: what stays in the work
    directory shows nowhere, and the next mount clears it.
    """
    try:
        discard(dir_fd, name)
    except OSError:
        pass


def clear_folder_away(dir_fd: int, name: bytes, inside: int) -> None:
    """As ``clear_away``, of a directory that is open on *inside* (-1: it is not).

    What it holds are whiteouts, which takes a third of the calls to say.
    """
    try:
        for whiteout in names_in(inside):
            os.unlink(whiteout, dir_fd=inside)
        os.rmdir(name, dir_fd=dir_fd)
    except OSError:
        clear_away(dir_fd, name)

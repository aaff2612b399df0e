"""What few programs ask: flags of single reads and writes, small buffers, leases, running files."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
import time
from collections.abc import Callable

from tests.support.callers import OTHER, OWNER, ROOT
from tests.support.calls import case
from tests.support.kernel import AT_FDCWD, AT_SYMLINK_NOFOLLOW, getdents
from tests.support.rawcalls import AT_EMPTY_PATH, KEEP_SIZE, PUNCH_HOLE, ZERO, fallocate, link_fd
from tests.support.things import nothing, one

_RWF_HIPRI, _RWF_DSYNC, _RWF_SYNC, _RWF_APPEND, _RWF_NOAPPEND = 1, 2, 4, 16, 32
_READ_SHARED, _READ_PRIVATE = (1, 1), (1, 2)
_WRITE_SHARED, _WRITE_PRIVATE, _SYNC_SHARED = (3, 1), (3, 2), (3, 0x80003)
_FCHMODAT2, _FILE_GETATTR, _FILE_SETATTR, _OPENAT2 = 452, 468, 469, 437
_OFD_SETLK = 37
_FLOCK = struct.Struct("=hhqqi4x")
_ATTRIBUTES = (("user.a", b"12345"), ("user.e", b""))
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_LONG, _SIZE = ctypes.c_long, ctypes.c_size_t
_SLEEP = "/bin/sleep"


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _answer(call: Callable[..., object], *args: object) -> object:
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _kind_of(call: Callable[..., object], *args: object) -> str:
    """As ``_answer`` for what returns a descriptor, whose number says nothing."""
    found = _answer(call, *args)
    return found if isinstance(found, str) else "done"


def write_with(name: str, flags: int, opened: int = 0) -> tuple[object, ...]:
    """pwritev2(2) and preadv2(2) with *flags*."""
    fd = os.open(name, os.O_RDWR | opened)
    wrote = _answer(os.pwritev, fd, [b"AB", b"C"], 2, flags)
    return wrote, _answer(os.preadv, fd, [bytearray(4)], 1, flags), os.pread(fd, 99, 0)


def lease(name: str, flags: int, kind: int) -> tuple[object, ...]:
    fd = os.open(name, flags | os.O_NONBLOCK)
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    taken = _answer(fcntl.fcntl, fd, fcntl.F_SETLEASE, kind)
    others = [_kind_of(os.open, name, each | os.O_NONBLOCK) for each in (os.O_WRONLY, os.O_RDONLY)]
    return taken, _answer(fcntl.fcntl, fd, fcntl.F_GETLEASE), *others


def syncs(name: str, flags: int) -> list[object]:
    fd = os.open(name, flags | os.O_NONBLOCK)
    calls = (
        os.fsync,
        os.fdatasync,
        lambda own: _check(_libc.syncfs(own)),
        lambda own: _check(_libc.sync_file_range(own, _LONG(0), _LONG(0), 7)),
        lambda own: os.posix_fadvise(own, 0, 0, os.POSIX_FADV_DONTNEED),
        lambda own: _check(_libc.readahead(own, _LONG(0), _SIZE(4096))),
    )
    return [_answer(call, fd) for call in calls]


def maps(name: str, flags: int, protection: int, kind: int) -> str:
    fd = os.open(name, flags | os.O_NONBLOCK)
    at = _libc.mmap(None, _SIZE(4096), protection, kind, fd, _LONG(0))
    if at == 2**64 - 1:
        return errno.errorcode[ctypes.get_errno()]
    _libc.munmap(ctypes.c_void_p(at), _SIZE(4096))
    return "done"


def swapon(name: str) -> object:
    with open(name, "r+b") as file:
        file.write(b"\0" * 4086 + b"SWAPSPACE2")
    return _answer(lambda: _check(_libc.swapon(os.fsencode(name), 0)))


def getxattr_into(name: str, attribute: str, size: int) -> int:
    """lgetxattr(2) into a buffer of *size* bytes; of none, it tells how many there are."""
    room = ctypes.create_string_buffer(size) if size else None
    path, wanted = os.fsencode(name), os.fsencode(attribute)
    return _check(_libc.lgetxattr(path, wanted, room, _SIZE(size)))


def listxattr_into(name: str, size: int) -> int:
    """llistxattr(2) into a buffer of *size* bytes."""
    room = ctypes.create_string_buffer(size)
    return _check(_libc.llistxattr(os.fsencode(name), room, _SIZE(size)))


def file_attr(name: str, xflags: int = -1) -> tuple[int, ...]:
    """file_getattr(2), after file_setattr(2) of *xflags* if those are given (Linux 6.17)."""
    path, follow = os.fsencode(name), AT_SYMLINK_NOFOLLOW
    if xflags >= 0:
        wanted = struct.pack("=QIIII", xflags, 0, 0, 0, 0)
        _check(_libc.syscall(_FILE_SETATTR, AT_FDCWD, path, wanted, _SIZE(24), follow))
    found = ctypes.create_string_buffer(24)
    _check(_libc.syscall(_FILE_GETATTR, AT_FDCWD, path, found, _SIZE(24), follow))
    words = struct.unpack("=QIIII", found.raw)
    return words[0], words[1], words[3], words[4]


def openat2(name: str, resolve: int) -> str:
    how = struct.pack("=QQQ", os.O_RDONLY, 0, resolve)
    fd = _check(_libc.syscall(_OPENAT2, AT_FDCWD, os.fsencode(name), how, _SIZE(24)))
    return oct(os.fstat(fd).st_mode)


def list_into(name: str, size: int) -> int:
    """getdents64(2) into a buffer of *size* bytes."""
    return len(getdents(os.open(name, os.O_RDONLY), size=size))


def described_nameless(name: str) -> tuple[int, int]:
    """Describe a file that has no name, give it two and take one away again."""
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.setxattr(fd, "user.t", b"v")
    os.fchown(fd, 55, 66)
    os.fchmod(fd, 0o4755)
    os.ftruncate(fd, 100)
    os.utime(fd, ns=(5, 6))
    fallocate(fd, 0, 0, 8192)
    before = os.fstat(fd).st_nlink
    link_fd(fd, name)
    os.link(name, name + "2")
    os.unlink(name)
    return before, os.fstat(fd).st_nlink


def linked_again(name: str) -> tuple[object, int]:
    """linkat(2) of an open file that has lost this name, by its descriptor."""
    fd = os.open(name, os.O_RDWR)
    os.unlink(name)
    return _answer(link_fd, fd, "z"), min(os.fstat(fd).st_nlink, 2)


def by_empty_path(name: str) -> list[object]:
    """What O_PATH descriptors allow, with AT_EMPTY_PATH and without."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW)
    calls = (
        lambda: _check(_libc.fchownat(fd, b"", 12, 13, AT_EMPTY_PATH)),
        lambda: _check(_libc.syscall(_FCHMODAT2, fd, b"", 0o600, AT_EMPTY_PATH)),
        lambda: _check(_libc.utimensat(fd, b"", None, AT_EMPTY_PATH)),
        lambda: os.fstat(fd).st_uid,
        lambda: os.setxattr(fd, "user.x", b"v"),
        lambda: os.fchdir(fd),
        lambda: os.read(fd, 1),
        lambda: os.ftruncate(fd, 0),
        lambda: fcntl.flock(fd, fcntl.LOCK_SH),
    )
    return [_answer(call) for call in calls]


def allocate(name: str, mode: int, offset: int, length: int) -> tuple[object, ...]:
    """fallocate(2), also beyond the end; then where data and holes are."""
    fd = os.open(name, os.O_RDWR)
    done = _answer(fallocate, fd, mode, offset, length)
    found = [_answer(os.lseek, fd, 0, whence) for whence in (os.SEEK_DATA, os.SEEK_HOLE)]
    return done, os.fstat(fd).st_size, *found


def limited(name: str) -> list[object]:
    """Write at and beyond RLIMIT_FSIZE."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        fd = os.open(name, os.O_RDWR)
        wrote = [_answer(os.pwrite, fd, b"x" * 2000, 0), _answer(os.pwrite, fd, b"x", 1000)]
        return [*wrote, _answer(os.ftruncate, fd, 1001)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def locks(name: str, flags: int) -> list[str]:
    """flock(2), POSIX and open-file-description locks through two descriptors."""
    first, second = os.open(name, flags), os.open(name, flags)
    whole = {kind: _FLOCK.pack(kind, 0, 0, 5, 0) for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK)}
    return [
        _kind_of(fcntl.flock, first, fcntl.LOCK_EX | fcntl.LOCK_NB),
        _kind_of(fcntl.flock, second, fcntl.LOCK_SH | fcntl.LOCK_NB),
        _kind_of(fcntl.lockf, first, fcntl.LOCK_EX | fcntl.LOCK_NB, 5),
        _kind_of(fcntl.lockf, first, fcntl.LOCK_SH | fcntl.LOCK_NB, 5),
        _kind_of(fcntl.fcntl, first, _OFD_SETLK, whole[fcntl.F_RDLCK]),
        _kind_of(fcntl.fcntl, second, _OFD_SETLK, whole[fcntl.F_WRLCK]),
    ]


def run_while_open(name: str, flags: int) -> int:
    """execve(2) of a file that is open; the errno, or the program's status."""
    fd = os.open(name, flags)
    status = os.waitstatus_to_exitcode(os.waitpid(_run(name, "0"), 0)[1])
    os.close(fd)
    return status


def open_while_running(name: str, flags: int) -> list[str]:
    """Open and truncate a running program, and again when it was copied up."""
    pid = _run(name, "9")
    try:
        while os.path.basename(os.readlink(f"/proc/{pid}/exe")) != name:
            time.sleep(0.002)
        before = [_kind_of(os.open, name, flags), _kind_of(os.truncate, name, 3)]
        os.chmod(name, 0o711)
        return [*before, _kind_of(os.open, name, flags), _kind_of(os.truncate, name, 3)]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _run(name: str, word: str) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.execv("./" + name, [name, word])
        except OSError as error:
            os._exit(error.errno or 255)
    return pid


def _program() -> bytes:
    with open(_SLEEP, "rb") as file:
        return file.read()


_RUNNING = one("file", data=_program(), mode=0o755)
_TEN_KB = one("file", data=b"D" * 10_000)
CASES = [
    *(case(write_with, "x", flags, on=one("file"))
      for flags in (0, _RWF_HIPRI, _RWF_DSYNC, _RWF_SYNC, _RWF_APPEND, _RWF_NOAPPEND,
                    _RWF_APPEND | _RWF_NOAPPEND, _RWF_APPEND | _RWF_DSYNC, 0x100)),
    case(write_with, "x", _RWF_NOAPPEND, os.O_APPEND, on=one("file")),
    *(case(lease, "x", flags, kind, on=one("file dir"), by=(ROOT, OWNER, OTHER))
      for flags in (os.O_RDONLY, os.O_RDWR) for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK)),
    *(case(syncs, "x", flags, on=one("file dir fifo")) for flags in (os.O_RDONLY, os.O_PATH)),
    *(case(maps, "x", flags, *how, on=one("file fifo"))
      for flags in (os.O_RDONLY, os.O_RDWR)
      for how in (_READ_SHARED, _READ_PRIVATE, _WRITE_SHARED, _WRITE_PRIVATE)),
    case(maps, "x", os.O_RDWR, *_SYNC_SHARED, on=one("file")),
    case(swapon, "x", on=one("file", data=b"s" * 65536)),
    *(case(getxattr_into, "x", name, size, on=one("file dir", xattrs=_ATTRIBUTES))
      for name in ("user.a", "user.e", "user.none") for size in (0, 1, 4, 5, 65536, 65537)),
    *(case(listxattr_into, "x", size, on=one("file dir", "lower upper", xattrs=_ATTRIBUTES))
      for size in (1, 13, 14, 65537)),
    case(file_attr, "x", by=(ROOT, OTHER), needs="file flags"),
    *(case(file_attr, "x", xflags, by=(ROOT, OWNER, OTHER), on=one("file dir"), needs="file flags")
      for xflags in (0x80, 0)),
    *(case(openat2, name, resolve, on=one("file dir symlink"))
      for name in ("x", "./x", "../x", "/x", "x/.") for resolve in (0, 1, 2, 4, 8, 16, 64)),
    *(case(list_into, "x", size, on=one("dir file", full=True)) for size in (1, 20, 24, 48)),
    case(described_nameless, "z", on=nothing(), needs="O_TMPFILE"),
    case(linked_again, "x", on=one("file")),
    case(by_empty_path, "x", by=(ROOT, OWNER, OTHER)),
    *(case(allocate, "x", mode, offset, length, on=_TEN_KB, needs="punch hole")
      for mode in (0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO, ZERO | KEEP_SIZE)
      for offset, length in ((20_000, 4096), (8192, 8192), (4096, 4096), (0, 10_000))),
    case(limited, "x", on=one("file"), by=(OWNER,)),
    *(case(locks, "x", flags, on=one("file")) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)),
    *(case(run_while_open, "x", flags, on=_RUNNING)
      for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)),
    *(case(open_while_running, "x", flags, on=_RUNNING) for flags in (os.O_RDONLY, os.O_WRONLY)),
]  # fmt: skip

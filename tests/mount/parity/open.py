"""open(2): every flag on everything, what creation makes, and files without a name."""

import errno
import fcntl
import itertools
import mmap
import os
import stat

from tests.support.callers import BARE, EVERYBODY, MEMBER, OTHER, OWNER, ROOT
from tests.support.calls import case
from tests.support.examples import FULL
from tests.support.rawcalls import link_fd
from tests.support.things import Folder, Thing, beside, nothing, one

_R, _W, _RW, _C = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT
_STATUS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_DIRECT | os.O_NOATIME | os.O_PATH
_TARGET = Thing("file", "lower", "nowhere")
_GROUPS = (ROOT, OWNER, MEMBER, OTHER)
_SET_GID = Folder(mode=0o2777, gid=3000)
_STRANGE = Folder(mode=0o2777, gid=4000)
_SIX = (_C, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY)
_CHOICES = [sum(some) for count in range(7) for some in itertools.combinations(_SIX, count)]
_SINGLE, _PAIRS = _CHOICES[:7], _CHOICES[:22]  # none and one of them; at most two
_ACCESS = (_R, _W, _RW)
_COMBINED = [access | extra for access in _ACCESS for extra in _CHOICES]
_OPENED = [*one("file dir symlink", "" if FULL else "lower upper"), *nothing()]
_BY_OTHERS = _OPENED if FULL else [*one("file", "lower copied linked"), *nothing("absent")]
_FEW = "lower upper merged"
_DIRECT = [
    access | extra
    for access in _ACCESS
    for extra in (_CHOICES if FULL else (*_SINGLE, _C | os.O_EXCL))
] + [os.O_PATH]


def opens(name: str, flags: int, mode: int = 0o644) -> tuple[int, str, int, int]:
    """Open, and tell what the descriptor is: status flags, kind, size and links."""
    fd = os.open(name, flags | os.O_NONBLOCK, mode)
    st = os.fstat(fd)
    status = fcntl.fcntl(fd, fcntl.F_GETFL) & _STATUS
    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    return status, oct(st.st_mode), size, st.st_nlink if size else 0


def writes(name: str, flags: int, mode: int = 0o644) -> tuple[int, bytes]:
    """Open, write five bytes at the start (which O_APPEND moves), and return all of it."""
    fd = os.open(name, flags, mode)
    done = os.write(fd, b"WRITE")
    reader = os.open(name, os.O_RDONLY)
    return done, os.pread(reader, 99, 0)


def writes_directly(name: str, flags: int) -> tuple[str, bytes]:
    """Write a page past the page cache, and read it through that."""
    fd = os.open(name, os.O_RDWR | os.O_DIRECT | flags)
    with mmap.mmap(-1, 4096) as page:
        page[:] = b"D" * 4096
        try:
            answer = str(os.writev(fd, [page]))
        except OSError as error:
            answer = errno.errorcode[error.errno]
    with open(name, "rb") as file:
        return answer, file.read()


def reads(name: str, flags: int) -> bytes | str:
    fd = os.open(name, flags)
    try:
        return os.read(fd, 4096)
    except OSError as error:
        return errno.errorcode[error.errno]


def writes_twice(name: str) -> tuple[bytes, bytes]:
    """Read through a descriptor that was opened before a write through another."""
    old = os.open(name, os.O_RDONLY)
    first = os.pread(old, 99, 0)
    new = os.open(name, os.O_WRONLY)
    os.pwrite(new, b"NEW", 2)
    return first, os.pread(old, 99, 0)


def tmpfile(folder: str, flags: int, mode: int, link: str = "") -> tuple[str, int, int, int]:
    """Make a file without a name, write to it, and give it the name *link* if there is one."""
    fd = os.open(folder, os.O_TMPFILE | flags, mode)
    os.write(fd, b"nameless")
    if link:
        link_path = f"/proc/self/fd/{fd}"
        os.link(link_path, link, follow_symlinks=True)
    st = os.fstat(fd)
    return oct(st.st_mode), st.st_size, st.st_nlink, st.st_uid


def tmpfile_by_fd(folder: str, flags: int, link: str) -> int:
    fd = os.open(folder, os.O_TMPFILE | flags, 0o600)
    link_fd(fd, link)
    return os.fstat(fd).st_nlink


CASES = [
    *(case(opens, "x", flags, on=_OPENED) for flags in _COMBINED),
    *(case(opens, "x", flags, on=_BY_OTHERS, by=(OWNER, OTHER) if FULL else (user,))
      for flags, user in zip(_COMBINED, itertools.cycle((OWNER, OTHER)), strict=False)),
    *(case(opens, "x", os.O_PATH | flags, on=_BY_OTHERS) for flags in _CHOICES),
    *(case(opens, "x", os.O_TMPFILE | access | flags, on=[*one("file dir", "lower"), *nothing()],
           needs="O_TMPFILE")
      for flags in (_CHOICES if FULL else _PAIRS) for access in _ACCESS),
    *(case(opens, "x", os.O_DIRECT | flags, on=[*one("file dir symlink", _FEW), *nothing()])
      for flags in _DIRECT),
    case(opens, "x", os.O_DIRECT | os.O_TMPFILE | _RW, needs="O_TMPFILE",
         on=[*one("file dir symlink", _FEW), *nothing()]),
    *(case(writes_directly, "x", flags, on=one("file")) for flags in (0, os.O_TRUNC)),
    *(case(opens, "x", flags, on=one("fifo", "lower")) for flags in (_R, _RW, _RW | os.O_TRUNC)),
    *(case(opens, "x", flags, by=EVERYBODY, on=one("file dir")) for flags in (_R, _W, _RW)),
    *(
        case(opens, "x", flags, by=(ROOT, OWNER, MEMBER, OTHER, BARE), on=one("file", mode=mode))
        for mode in (0o400, 0o040, 0o004, 0o200, 0, 0o222)
        for flags in (_R, _W, _RW | os.O_TRUNC)
    ),
    *(
        case(opens, "x", flags, on=beside(one("symlink"), _TARGET), by=(ROOT, OWNER))
        for flags in (_R, _W | os.O_TRUNC, _W | os.O_NOFOLLOW, _C | _W, os.O_PATH | os.O_NOFOLLOW)
    ),
    case(opens, "x", _C | _W, on=one("symlink")),
    case(opens, "x", _C | _W | os.O_EXCL, on=one("symlink")),
    *(
        case(opens, "x", os.O_PATH | flags)
        for flags in (0, os.O_NOFOLLOW, os.O_DIRECTORY, _W | os.O_TRUNC)
    ),
    *(case(reads, "x", flags, on=one("file dir")) for flags in (_R, _W, os.O_PATH)),
    case(opens, "x", os.O_NOATIME, on=one("file dir"), by=EVERYBODY),
    *(case(opens, "x", flag | _RW, on=one("file")) for flag in (os.O_SYNC, os.O_DSYNC)),
    *(
        case(opens, name, _R, on=one("file dir symlink"))
        for name in ("x/", "x/.", "x/y", "./x", "no/x", "", "n" * 256)
    ),
    *(
        case(writes, "x", flags, on=one("file"), by=(ROOT, OWNER, OTHER))
        for flags in (_W, _W | os.O_APPEND, _W | os.O_TRUNC, _RW | os.O_APPEND | os.O_TRUNC)
    ),
    case(writes_twice, "x", on=one("file"), by=(ROOT, OWNER)),
    # writing takes set-id bits
    *(
        case(writes, "x", flags, by=(ROOT, OWNER, OTHER, BARE), on=one("file", mode=mode))
        for flags in (_W, _W | os.O_TRUNC)
        for mode in (0o6777, 0o4777)
    ),
    case(writes, "x", _W, by=(ROOT, OWNER, OTHER, BARE), on=one("file", mode=0o2766),
         needs="caller of a write"),
    *(
        case(opens, "x", _C | _W | os.O_EXCL, mode, on=nothing(), by=_GROUPS, umask=umask,
             folder=folder)
        for mode, umask, folder in (
            (0o666, 0o022, Folder()), (0o7777, 0, Folder()), (0, 0, Folder()),
            (0o2775, 2, _SET_GID), (0o2775, 2, _STRANGE), (0o6711, 0, _STRANGE),
            (0o666, 0o777, Folder(mode=0o755)),
        )
    ),
    case(writes, "x", _C | _W, 0o000, on=nothing(), by=(ROOT,)),
    case(opens, "x", _C | _RW, 0o400, on=nothing(), by=(OWNER,)),
    case(opens, "n" * 255, _C | _W, on=nothing("absent")),
    case(opens, "n" * 256, _C | _W, on=nothing("absent")),
    # in sticky directories that all may write, others' files are not opened with O_CREAT
    *(
        case(opens, "x", _C | _W, by=(ROOT, OWNER, OTHER), on=one("file fifo", mode=0o666),
             folder=Folder(mode=mode, uid=uid))
        for mode in (0o1777, 0o1775) for uid in (0, 1002)
    ),
    *(
        case(tmpfile, ".", flags, mode, link, on=nothing("absent"), by=by, folder=folder,
             umask=0o027, needs="O_TMPFILE")
        for flags in (_W, _RW) for mode in (0o666, 0o6755) for link in ("", "z")
        for by, folder in (
            ((ROOT, OWNER), Folder()), ((ROOT, OWNER, OTHER), _STRANGE),
            ((ROOT, OWNER), Folder(mode=0o755)),
        )
    ),
    case(tmpfile, ".", _RW | os.O_EXCL, 0o600, "z", on=nothing("absent"), needs="O_TMPFILE"),
    case(tmpfile, "x", _RW, 0o600, "z", on=one("dir file"), needs="O_TMPFILE"),
    case(tmpfile_by_fd, ".", _RW, "z", on=nothing(), by=(ROOT, OWNER), needs="O_TMPFILE"),
    case(opens, ".", os.O_TMPFILE, on=nothing("absent"), needs="O_TMPFILE"),
]  # fmt: skip

"""Files that have chattr(1)'s flags in a layer: what they forbid, and what a copy keeps of them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.support.callers import OTHER, OWNER, ROOT
from tests.support.calls import Case, case, through
from tests.support.rawcalls import (
    FS_APPEND,
    FS_DIRSYNC,
    FS_IMMUTABLE,
    FS_NOATIME,
    FS_NODUMP,
    FS_SYNC,
    KEEP_SIZE,
    PUNCH_HOLE,
    fallocate,
    fs_flags,
    set_fs_flags,
    utimens_now,
    utimensat,
)
from tests.support.things import Scene, Thing, both, one

_FILE_STATES, _DIR_STATES = "lower upper linked", "lower upper merged"


def _files(flags: int, **more) -> list[Scene]:
    return one("file", _FILE_STATES, flags=flags, **more)


def _dirs(flags: int, **more) -> list[Scene]:
    return one("dir", _DIR_STATES, flags=flags, **more)


def append(name: str) -> bytes:
    """Write to the end, twice; return what the file has then."""
    fd = os.open(name, os.O_RDWR | os.O_APPEND)
    try:
        os.write(fd, b"more")
        os.write(fd, b" and more")
        return os.pread(fd, 100, 0)
    finally:
        os.close(fd)


def write_in(name: str) -> None:
    """Open for writing at any place, and do: FUSE's kernel side asks nobody at opening."""
    fd = os.open(name, os.O_WRONLY)
    try:
        os.pwrite(fd, b"X", 1)
    finally:
        os.close(fd)


def truncate_at_opening(name: str) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_TRUNC))


def allocate(name: str, mode: int) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_APPEND)
    try:
        fallocate(fd, mode, 0, 4096)
    finally:
        os.close(fd)


def copy_into(name: str, source: str) -> None:
    """copy_file_range(2) over what is there."""
    fd, other = os.open(name, os.O_WRONLY), os.open(source, os.O_RDONLY)
    try:
        os.copy_file_range(other, fd, 3, 0, 0)
    finally:
        os.close(fd)
        os.close(other)


def make(name: str) -> None:
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def nameless(name: str) -> None:
    os.close(os.open(name, os.O_TMPFILE | os.O_WRONLY, 0o600))


def changed_inside(name: str) -> bytes:
    """Change the content of a file in a directory, which its flags do not forbid."""
    inside = name + "/low" if os.path.exists(name + "/low") else name + "/up"
    with open(inside, "ab") as file:
        file.write(b"more")
    with open(inside, "rb") as file:
        return file.read()


def kept(name: str, change: Callable[[str], None]) -> str:
    """Return the flags before and after *change*, which copies a lower file up."""
    before = through(fs_flags)(name)
    change(name)
    return f"{before:#x} {through(fs_flags)(name):#x}"


def inherited(name: str, inside: str) -> str:
    """Return the flags of a file and of a directory that are made in *name*."""
    os.mkdir(f"{name}/{inside}-dir")
    make(f"{name}/{inside}")
    answers = [through(fs_flags)(f"{name}/{each}") for each in (inside + "-dir", inside)]
    return " ".join(hex(answer) for answer in answers)


def chmod(name: str) -> None:
    os.chmod(name, 0o700)


def freed(name: str, flags: int, call: Callable[..., None], *args: object) -> None:
    """Clear *flags* of the file, and then make *call*."""
    through(set_fs_flags)(name, 0, flags)
    call(name, *args)


_PAST = ((1_000_000_000, 5), (1_000_000_000, 7))
_OMIT_NOW = ((0, 0x3FFFFFFE), (0, 0x3FFFFFFF))
_ON_FILES = [
    (os.truncate, 3),
    (os.chmod, 0o600),
    (os.chown, 5, 5),
    (os.chown, -1, -1),
    (utimensat, *_PAST),
    (utimensat, *_OMIT_NOW),
    (os.setxattr, "user.a", b"v"),
    (os.removexattr, "user.none"),
    (os.link, "linked"),
    (os.rename, "renamed"),
    (os.unlink,),
    (truncate_at_opening,),
    (allocate, 0),
    (allocate, KEEP_SIZE),
    (allocate, KEEP_SIZE | PUNCH_HOLE),
    (through(fs_flags),),
]
_BY_OTHERS = [(append,), (utimens_now,)]
_ON_DIRS = [
    (os.chmod, 0o700),
    (utimens_now,),
    (os.setxattr, "user.a", b"v"),
    (os.rename, "renamed"),
    (os.rmdir,),
    (nameless,),
    (through(fs_flags),),
]
_INSIDE = [
    (make, "x/new"),
    (os.mkdir, "x/new"),
    (os.symlink, "t", "x/new"),
    (os.mkfifo, "x/new"),
    (os.link, "y", "x/new"),
    (os.rename, "y", "x/new"),
    (os.rename, "y", "x/low"),
    (os.unlink, "x/low"),
    (os.rename, "x/low", "out"),
    (changed_inside, "x"),
]
_FREED = [(os.unlink,), (os.chmod, 0o600), (write_in,), (os.rename, "renamed")]
_Y = [(Thing("file", "lower"),)]
_DESCRIBING = (FS_SYNC, FS_NODUMP, FS_NOATIME, FS_SYNC | FS_NODUMP | FS_NOATIME)


def _protected(flag: int) -> Iterator[Case]:
    """What a file or directory with *flag*, FS_IMMUTABLE or FS_APPEND, answers."""
    for call, *args in _ON_FILES:
        yield case(call, "x", *args, on=_files(flag))
    for call, *args in _BY_OTHERS:
        yield case(call, "x", *args, on=_files(flag, mode=0o666), by=(ROOT, OWNER, OTHER))
    for call, *args in _ON_DIRS:
        yield case(call, "x", *args, on=_dirs(flag))
    for call, *args in _INSIDE:
        yield case(call, *args, on=both(_dirs(flag, full=True), _Y))
    for call, *args in _FREED:
        yield case(freed, "x", flag, call, *args, on=_files(flag))
    yield case(freed, "x", flag, os.rmdir, on=_dirs(flag))
    yield case(os.rename, "y", "x", on=both(_files(flag), _Y))


def _described(flag: int) -> Iterator[Case]:
    """What a copy, and what is made in a directory, have of *flag*."""
    yield case(kept, "x", write_in, on=_files(flag))
    yield case(kept, "x", chmod, on=_dirs(flag))
    yield case(inherited, "x", "new", on=_dirs(flag, mode=0o777), by=(ROOT, OTHER))


_ALL = [
    *_protected(FS_IMMUTABLE),
    *_protected(FS_APPEND),
    *(each for flag in _DESCRIBING for each in _described(flag)),
    case(kept, "x", chmod, on=_dirs(FS_DIRSYNC)),
    case(kept, "x", append, on=_files(FS_APPEND | FS_NODUMP)),
    case(copy_into, "x", "y", on=both(_files(FS_APPEND), _Y)),
]
CASES = [replace(each, needs="file flags") for each in _ALL]

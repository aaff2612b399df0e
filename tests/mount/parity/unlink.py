"""unlink(2), rmdir(2): what goes, what stays, and sticky directories."""

import os

from tests.support.callers import EVERYBODY, MEMBER, OTHER, OWNER, ROOT
from tests.support.calls import case
from tests.support.things import Folder, Thing, beside, nothing, one

_CLOSED = Folder(mode=0o755)
_STICKY = (Folder(mode=0o1777), Folder(mode=0o1777, uid=1002), Folder(mode=0o1777, uid=1000))


def unlink_open(name: str) -> tuple[int, bytes, int]:
    """Unlink an open file, then read and write it, and see what fstat says."""
    fd = os.open(name, os.O_RDWR)
    os.unlink(name)
    before = os.fstat(fd).st_nlink
    os.pwrite(fd, b"still", 3)
    data = os.pread(fd, 100, 0)
    os.close(fd)
    return before, data, len(data)


def unlink_readable(name: str) -> tuple[int, bytes]:
    fd = os.open(name, os.O_RDONLY)
    os.unlink(name)
    answer = os.fstat(fd).st_nlink, os.pread(fd, 100, 0)
    os.close(fd)
    return answer


def unlink_one_of_two(name: str, other: str) -> tuple[int, int]:
    """Unlink *name*, of which *other* is another name, with the file open through the latter."""
    fd = os.open(other, os.O_RDONLY)
    os.unlink(name)
    return os.fstat(fd).st_nlink, os.lstat(other).st_nlink


def rmdir_inside(name: str) -> list[str]:
    """Remove a directory while standing in it; nothing can be made there then."""
    fd = os.open(name, os.O_RDONLY)
    os.fchdir(fd)
    os.rmdir("../" + name)
    answers = [str(os.listdir(fd)), str(os.fstat(fd).st_nlink)]
    for call in (lambda: os.mkdir("z"), lambda: os.symlink("t", "z"), lambda: os.mkfifo("z")):
        try:
            call()
        except OSError as error:
            answers.append(str(error.errno))
    return answers


def again(name: str) -> None:
    """Remove and make again, twice."""
    for _ in range(2):
        os.rmdir(name)
        os.mkdir(name, 0o700)


CASES = [
    case(os.unlink, "x", by=EVERYBODY),
    case(os.unlink, "x", by=(ROOT, OWNER), folder=_CLOSED),
    *(case(os.unlink, "x", by=(ROOT, OWNER, MEMBER, OTHER), folder=each) for each in _STICKY),
    *(
        case(os.rmdir, "x", on=one("dir"), by=(ROOT, OWNER, MEMBER, OTHER), folder=each)
        for each in (*_STICKY, _CLOSED)
    ),
    case(os.unlink, "x", on=nothing()),
    case(os.unlink, "x/", on=one("file dir symlink")),
    case(os.unlink, "x/y", on=one("file dir symlink")),
    case(os.unlink, "x/low", on=one("dir", full=True), by=(ROOT, OWNER, OTHER)),
    case(os.unlink, "x2", on=one("file", "linked linked-copied")),
    case(os.unlink, "n" * 255, on=nothing("absent")),
    case(os.unlink, "n" * 256, on=nothing("absent")),
    case(os.unlink, ".", on=nothing("absent")),
    case(os.unlink, "..", on=nothing("absent")),
    case(unlink_open, "x", on=one("file"), by=(ROOT, OWNER)),
    case(unlink_readable, "x", on=one("file"), by=(ROOT, OTHER)),
    case(unlink_one_of_two, "x", "x2", on=one("file", "linked linked-copied")),
    case(os.rmdir, "x", by=EVERYBODY),
    case(os.rmdir, "x", on=one("dir", full=True), by=(ROOT, OWNER)),
    case(os.rmdir, "x/", on=one("dir file symlink")),
    case(os.rmdir, "x/.", on=one("dir")),
    case(os.rmdir, "x/..", on=one("dir")),
    case(os.rmdir, "x", on=nothing()),
    case(os.rmdir, "x/y", on=one("file dir")),
    case(os.rmdir, "n" * 256, on=nothing("absent")),
    case(os.rmdir, "x", on=beside(one("symlink"), Thing("dir", "lower", "nowhere"))),
    case(rmdir_inside, "x", on=one("dir"), by=(ROOT, OWNER)),
    case(again, "x", on=one("dir")),
]

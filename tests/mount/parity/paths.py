"""Names and paths at their limits: long ones, deep ones, many links, and odd bytes."""

import errno
import os
from contextlib import suppress

from tests.support.callers import OWNER, ROOT
from tests.support.calls import case
from tests.support.things import Folder, Thing, nothing, one

_PATH_MAX = 4096
_NAME = "n" * 255
_ATTEMPTS = 4


def deep(levels: int, name: str) -> tuple[int, list[str], str]:
    """Walk down *levels* new directories one by one, work there, and come back up removing."""
    for _ in range(levels):
        os.mkdir(name)
        os.chdir(name)
    with open("file", "wb") as file:
        file.write(b"deep")
    os.rename("file", "moved")
    os.symlink("moved", "link")
    found = sorted(os.listdir("."))
    size = os.stat("link").st_size
    try:
        os.getcwd()
        shown = "a path"
    except OSError as error:
        shown = errno.errorcode[error.errno]
    for each in ("link", "moved"):
        os.unlink(each)
    for _ in range(levels):
        os.chdir("..")
        os.rmdir(name)
    return size, found, shown


def long_path(length: int) -> int:
    """stat(2) by a path of exactly *length* bytes, made of dots."""
    path = "./" * (length // 2) + "x"
    return os.stat(path[-length:] if len(path) > length else path).st_size


def links(count: int, target: str) -> int:
    """Open a file through *count* symbolic links, one leading to the next.

    A walk that the kernel begins anew, because somebody mounted something meanwhile, goes on
    counting (fs/namei.c, path_init()), on any filesystem: two in a thousand of 40 links fail then.
    """
    for number in range(count):
        os.symlink(f"l{number - 1}" if number else target, f"l{number}")
    for _ in range(_ATTEMPTS):
        with suppress(OSError):
            return os.stat(f"l{count - 1}").st_size
    return os.stat(f"l{count - 1}").st_size


def loop(call_flags: int) -> None:
    os.symlink("b", "a")
    os.symlink("a", "b")
    os.close(os.open("a", call_flags))


def named(name: bytes) -> list[bytes]:
    """Make, list, rename and remove a file of this name."""
    with open(name, "wb") as file:
        file.write(b"odd")
    found = os.listdir(b".")
    os.rename(name, b"y")
    os.rename(b"y", name)
    os.unlink(name)
    return sorted(found)


def relative(name: str) -> list[str]:
    """Work from inside a directory that is renamed meanwhile."""
    os.mkdir(name)
    os.chdir(name)
    os.rename("../" + name, "../" + name + "2")
    os.mkdir("below")
    return [os.path.basename(os.getcwd()), *os.listdir("..")]


def names(folder: str) -> list[str]:
    return sorted(os.listdir(folder))


CASES = [
    case(deep, 30, _NAME, on=nothing("absent"), by=(ROOT, OWNER)),
    case(deep, 100, "d", on=nothing("absent")),
    *(case(long_path, length, on=one("file"))
      for length in (_PATH_MAX - 3, _PATH_MAX - 1, _PATH_MAX + 1)),
    *(case(links, count, "x", on=one("file", "lower upper")) for count in (1, 39, 40, 41)),
    *(case(loop, flags, on=nothing("absent"))
      for flags in (os.O_RDONLY, os.O_NOFOLLOW, os.O_PATH | os.O_NOFOLLOW, os.O_CREAT)),
    *(case(named, name, on=nothing("absent"))
      for name in (b"\xff\xfe", b" ", b"a\nb", b"a\\b:c,d", b"...", b"-", b"n" * 255, b"n" * 256,
                   "\u00e9".encode() * 127, b"#1", b"work")),
    case(relative, "x", on=nothing(), by=(ROOT, OWNER)),
    case(names, "x", on=one("dir", full=True), by=(ROOT, OWNER)),
    case(names, "x", on=one("dir", mode=0o300, full=True), by=(OWNER,)),
    case(os.chdir, "x", on=one("dir file symlink", mode=0o600), by=(ROOT, OWNER)),
    case(os.stat, "x/../y", on=[(Thing("dir", "lower", "x", mode=0o600),)], by=(OWNER,),
         folder=Folder()),
]  # fmt: skip

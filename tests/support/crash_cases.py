"""A small tree of layers, and the changes to it that a daemon is killed in the middle of.

A change is a function of the root of a tree: a mount's, or a plain directory's.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from tests.support import kernel
from tests.support.files import as_user, opened
from tests.support.stacks import Dir, Entry, Fifo, File, Layer, Link, Symlink

_GET_FLAGS, _SET_FLAGS, _NO_DUMP = 0x80086601, 0x40086602, 0x40  # linux/fs.h
_PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE with it, as fallocate(2) wants
Step = Callable[[bytes], object]

STACK: tuple[Layer, ...] = (
    (
        Dir(b".", 0o755),
        File(b"file", b"file ", 3000),
        Dir(b"dir", 0o750, 5, 6, xattrs=(("user.dir", b"1"),)),
        File(b"dir/a", b"a ", 30, 0o640, 7, 8, xattrs=(("user.one", b"1"),)),
        File(b"dir/sub/deep", b"deep ", 5000, hole=90_000),
        File(b"merged/one", b"one ", 40),
        File(b"hard/one", b"hard ", 50, 0o644, 9, 9),
        Link(b"hard/two", b"hard/one"),
        Link(b"third", b"hard/one"),
        Dir(b"empty"),
        Symlink(b"symlink", b"file", 3, 3),
        Fifo(b"fifo"),
    ),
    (File(b"merged/two", b"two ", 20),),
)


def side_by_side(count: int) -> list[Layer]:
    """Return the layers of *count* such trees, in the directories ``t0``, ``t1`` and so on."""
    return [
        [_within(b"t%d" % number, one) for number in range(count) for one in layer]
        for layer in STACK
    ]


def _within(folder: bytes, entry: Entry) -> Entry:
    """Return *entry* of the small tree, in *folder*."""
    if isinstance(entry, Link):
        return Link(folder + b"/" + entry.path, folder + b"/" + entry.target)
    if isinstance(entry, Dir) and entry.path == b".":
        return replace(entry, path=folder)
    return replace(entry, path=folder + b"/" + entry.path)


class Case(NamedTuple):
    """What is done before (``given``) and the change that is tried (``when``), named in words."""

    when: Step
    given: tuple[Step, ...] = ()


def overwrite(path: bytes, data: bytes = b"NEW", at: int = 0, *, sync: bool = False) -> Step:
    """Write over a part of an existing file."""

    def step(root: bytes) -> None:
        with opened(root + b"/" + path, os.O_WRONLY) as fd:
            os.pwrite(fd, data, at)
            if sync:
                os.fsync(fd)

    return step


def truncated_open(path: bytes) -> Step:
    return lambda root: os.close(os.open(_at(root, path), os.O_WRONLY | os.O_TRUNC))


def truncate(path: bytes, size: int) -> Step:
    return lambda root: os.truncate(_at(root, path), size)


def chmod(path: bytes, mode: int) -> Step:
    return lambda root: os.chmod(_at(root, path), mode)


def chown(path: bytes, uid: int) -> Step:
    return lambda root: os.lchown(_at(root, path), uid, uid)


def attribute(path: bytes, name: str, value: bytes) -> Step:
    return lambda root: os.setxattr(_at(root, path), name, value)


def create(path: bytes) -> Step:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    return lambda root: os.close(os.open(_at(root, path), flags, 0o640))


def mkdir(path: bytes) -> Step:
    return lambda root: os.mkdir(_at(root, path), 0o755)


def symlink(path: bytes, target: bytes) -> Step:
    return lambda root: os.symlink(target, _at(root, path))


def link(old: bytes, new: bytes) -> Step:
    return lambda root: os.link(_at(root, old), _at(root, new), follow_symlinks=False)


def unlink(path: bytes) -> Step:
    return lambda root: os.unlink(_at(root, path))


def rmdir(path: bytes) -> Step:
    return lambda root: os.rmdir(_at(root, path))


def rename(old: bytes, new: bytes) -> Step:
    return lambda root: os.rename(_at(root, old), _at(root, new))


def exchange(old: bytes, new: bytes) -> Step:
    return lambda root: kernel.renameat2(_at(root, old), _at(root, new), kernel.RENAME_EXCHANGE)


def punch(path: bytes, offset: int, length: int) -> Step:
    """Free a part of an existing file; zeros are there then."""

    def step(root: bytes) -> None:
        with opened(_at(root, path), os.O_WRONLY) as fd:
            kernel.fallocate(fd, _PUNCH_HOLE, offset, length)

    return step


def allocate(path: bytes, length: int) -> Step:
    """Make sure of room for the first *length* bytes of an existing file."""

    def step(root: bytes) -> None:
        with opened(_at(root, path), os.O_WRONLY) as fd:
            kernel.fallocate(fd, 0, 0, length)

    return step


def copy_range(source: bytes, target: bytes, length: int) -> Step:
    """Copy the beginning of a file over that of another."""

    def step(root: bytes) -> None:
        with (
            opened(_at(root, source), os.O_RDONLY) as fd,
            opened(_at(root, target), os.O_WRONLY) as to,
        ):
            assert os.copy_file_range(fd, to, length) == length

    return step


def find_data(path: bytes) -> Step:
    def step(root: bytes) -> None:
        with opened(_at(root, path), os.O_RDONLY) as fd:
            assert os.lseek(fd, 0, os.SEEK_DATA) > 0

    return step


def no_dump(path: bytes) -> Step:
    """Set a file flag that changes nothing else (``chattr +d``)."""

    def step(root: bytes) -> None:
        with opened(_at(root, path), os.O_RDONLY) as fd:
            flags = int.from_bytes(fcntl.ioctl(fd, _GET_FLAGS, bytes(8)), "little")
            fcntl.ioctl(fd, _SET_FLAGS, (flags | _NO_DUMP).to_bytes(8, "little"))

    return step


def named_late(path: bytes, data: bytes = b"late") -> Step:
    """Make a file without a name, fill it, and give it its name."""

    def step(root: bytes) -> None:
        with opened(os.path.dirname(_at(root, path)), os.O_TMPFILE | os.O_WRONLY) as fd:
            os.write(fd, data)
            # Python follows the link in /proc only where it is given a directory beside it.
            os.link(b"/proc/self/fd/%d" % fd, _at(root, path), src_dir_fd=fd)

    return step


def by_a_stranger(step: Step) -> Step:
    """Let somebody do it who owns nothing and has no capability."""

    def done(root: bytes) -> None:
        number = as_user(lambda: step(root))
        if number:
            raise OSError(number, os.strerror(number))

    return done


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an attribute's value of *entries*: tag, permissions and ID (acl(5))."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def _at(root: bytes, path: bytes) -> bytes:
    return root + b"/" + path


_CLEARED = (unlink(b"merged/one"), unlink(b"merged/two"))

CASES = {
    "write to a lower file": Case(overwrite(b"file")),
    "write to a copy": Case(overwrite(b"file", b"AGAIN"), (overwrite(b"file"),)),
    "write and fsync": Case(overwrite(b"dir/sub/deep", b"x", 50_000, sync=True)),
    "open with O_TRUNC": Case(truncated_open(b"file")),
    "truncate": Case(truncate(b"dir/a", 3)),
    "truncate a hard link": Case(truncate(b"hard/one", 3)),
    "chmod a large file": Case(chmod(b"dir/sub/deep", 0o600)),
    "chmod a directory": Case(chmod(b"dir/sub", 0o700)),
    "chown a symbolic link": Case(chown(b"symlink", 5)),
    "chmod a fifo": Case(chmod(b"fifo", 0o640)),
    "set an attribute": Case(attribute(b"dir/a", "user.two", b"2")),
    "chmod a hard link": Case(chmod(b"hard/one", 0o600)),
    "chmod a second hard link": Case(chmod(b"third", 0o600), (chown(b"hard/one", 4),)),
    "link a lower file": Case(link(b"file", b"dir/other")),
    "link over a whiteout": Case(link(b"file", b"symlink"), (unlink(b"symlink"),)),
    "link a hard link": Case(link(b"hard/one", b"fourth")),
    "create": Case(create(b"dir/new")),
    "create over a whiteout": Case(create(b"file"), (unlink(b"file"),)),
    "mkdir": Case(mkdir(b"dir/sub/new")),
    "mkdir over a removed directory": Case(mkdir(b"merged"), (*_CLEARED, rmdir(b"merged"))),
    "symlink over a whiteout": Case(symlink(b"file", b"x"), (unlink(b"file"),)),
    "unlink a lower file": Case(unlink(b"dir/a")),
    "unlink a copy": Case(unlink(b"file"), (overwrite(b"file"),)),
    "unlink a new file": Case(unlink(b"dir/new"), (create(b"dir/new"),)),
    "unlink a hard link": Case(unlink(b"hard/one")),
    "unlink the last hard link": Case(unlink(b"third"), (unlink(b"hard/one"), unlink(b"hard/two"))),
    "rmdir a lower directory": Case(rmdir(b"empty")),
    "rmdir a new directory": Case(rmdir(b"new"), (mkdir(b"new"),)),
    "rmdir a merged directory": Case(rmdir(b"merged"), _CLEARED),
    "rmdir a moved directory": Case(rmdir(b"moved"), (*_CLEARED, rename(b"merged", b"moved"))),
    "rename a lower file": Case(rename(b"file", b"dir/other")),
    "rename a new file": Case(rename(b"new", b"dir/other"), (create(b"new"),)),
    "rename over a lower file": Case(rename(b"file", b"dir/a")),
    "rename over a hard link": Case(rename(b"file", b"hard/one")),
    "rename a hard link": Case(rename(b"hard/one", b"elsewhere")),
    "rename over a whiteout": Case(rename(b"file", b"symlink"), (unlink(b"symlink"),)),
    "rename a directory": Case(rename(b"dir", b"moved")),
    "rename a merged directory": Case(rename(b"merged", b"dir/moved")),
    "rename a moved directory": Case(rename(b"moved", b"merged/m"), (rename(b"dir", b"moved"),)),
    "rename a directory over an empty one": Case(rename(b"dir", b"empty")),
    "rename a directory over one full of whiteouts": Case(
        rename(b"dir", b"merged"), (chmod(b"merged", 0o700), *_CLEARED)
    ),
    "rename a directory over a whiteout": Case(rename(b"dir", b"file"), (unlink(b"file"),)),
    "rename a new directory to a removed one's name": Case(
        rename(b"new", b"empty"), (rmdir(b"empty"), mkdir(b"new"), create(b"new/inside"))
    ),
    "exchange files": Case(exchange(b"file", b"dir/a")),
    "exchange directories": Case(exchange(b"dir", b"merged")),
    "exchange a file and a directory": Case(exchange(b"file", b"dir")),
    "punch a hole": Case(punch(b"file", 1000, 500)),
    "name a nameless file": Case(named_late(b"dir/late")),
    "name a nameless file over a whiteout": Case(named_late(b"file"), (unlink(b"file"),)),
}
WITH_EXTENSION = tuple(list(CASES)[-3:])  # pyfuse3 alone answers these with "not supported"
_COPIED = (overwrite(b"file"), overwrite(b"dir/a"), overwrite(b"dir/sub/deep", at=91_000))
# The others of these, of files whose copy-up is behind them; one changes nothing.
CARRIED = {
    "allocate": Case(allocate(b"file", 90_000), _COPIED),
    "copy a range": Case(copy_range(b"file", b"dir/a", 2000), _COPIED),
    "find data": Case(find_data(b"dir/sub/deep"), _COPIED),
    "find data of a layer": Case(find_data(b"dir/sub/deep")),
    "set a file flag": Case(no_dump(b"file"), _COPIED),
    "set a file flag of a directory": Case(no_dump(b"dir"), (chmod(b"dir", 0o700),)),
}

_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_SHARED = acl((1, 6, -1), (2, 7, 1000), (4, 4, -1), (16, 7, -1), (32, 1, -1))
_OTHER = acl((1, 4, -1), (2, 1, 7), (4, 0, -1), (16, 1, -1), (32, 0, -1))
_BASIC = acl((1, 7, -1), (4, 5, -1), (32, 5, -1))


def _in_foreign_group(root: bytes) -> None:
    """Let the stranger have a file of a group that he is not in."""
    os.chown(_at(root, b"file"), 1000, 9)


_SET_ID = (chmod(b"file", 0o6777),)

# Each of these takes two writes where owners are kept aside; a few do so elsewhere, too.
TWO_WRITES = {
    "chmod a file with an ACL": Case(
        chmod(b"dir/a", 0o604), (attribute(b"dir/a", _ACCESS, _SHARED),)
    ),
    "chmod a directory with an ACL": Case(
        chmod(b"dir", 0o705), (attribute(b"dir", _ACCESS, _SHARED),)
    ),
    "chmod away the set-user-ID of a file with an ACL": Case(
        chmod(b"dir/a", 0o755), (attribute(b"dir/a", _ACCESS, _SHARED), chmod(b"dir/a", 0o4710))
    ),
    "chmod a directory with an ACL to be sticky": Case(
        chmod(b"dir", 0o1777), (attribute(b"dir", _ACCESS, _SHARED), chmod(b"dir", 0o2710))
    ),
    "give a file an ACL": Case(attribute(b"dir/a", _ACCESS, _SHARED), (chown(b"dir/a", 9),)),
    "give a file another ACL": Case(
        attribute(b"dir/a", _ACCESS, _SHARED),
        (attribute(b"dir/a", _ACCESS, _OTHER),),
    ),
    "take an ACL from a file": Case(
        attribute(b"dir/a", _ACCESS, _BASIC), (attribute(b"dir/a", _ACCESS, _SHARED),)
    ),
    "give a file an ACL, not being in its group": Case(
        by_a_stranger(attribute(b"file", _ACCESS, _SHARED)),
        (_in_foreign_group, chmod(b"file", 0o2775)),
    ),
    "chown a file to nobody, not being in its group": Case(
        by_a_stranger(chown(b"file", -1)), (_in_foreign_group, chmod(b"file", 0o6767))
    ),
    "create below a default ACL": Case(create(b"dir/new"), (attribute(b"dir", _DEFAULT, _SHARED),)),
    "mkdir below a default ACL": Case(mkdir(b"dir/new"), (attribute(b"dir", _DEFAULT, _SHARED),)),
    "truncate another's set-id file": Case(by_a_stranger(truncate(b"file", 3)), _SET_ID),
    "open another's set-id file with O_TRUNC": Case(
        by_a_stranger(truncated_open(b"file")), _SET_ID
    ),
}

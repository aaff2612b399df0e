"""Two layer directories side by side: what is missing, extra or different in the second.

The first is what a tar makes of an empty directory (``apply``), the second what became of such a
one. Both are walked by descriptors, directory by directory, whatever their depth.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator
from typing import NamedTuple

from unionfs.ondisk import override
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.whiteout import is_whiteout, is_whiteout_file
from unionfs.syscalls import xattr
from unionfs.syscalls.at import name_path, open_beneath
from unionfs.tarball.content import HOST_ATTRIBUTES

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}
_WHITEOUT = "whiteout"
_Identity = tuple[int, int]


class Difference(NamedTuple):
    """What is different about *path*, which has no leading slash and is ``.`` for the root."""

    path: bytes
    says: str


def differences(
    wanted: int, found: int, *, with_content: Container[bytes] | None = None
) -> Iterator[Difference]:
    """Yield where the directory *found* is not as *wanted*.

    Of *wanted* only the files *with_content* have their bytes (``apply_layer``), None: all. Raises
    OSError.
    """
    yield from _Comparison(wanted, found, with_content).run()


class _Comparison:
    """One comparison; ``_names`` has the first name of each file with several, in either tree."""

    def __init__(self, wanted: int, found: int, with_content: Container[bytes] | None) -> None:
        self._roots = wanted, found
        self._with_content = with_content
        self._spelling = override.of_layer(wanted)
        self._names: tuple[dict[_Identity, bytes], dict[_Identity, bytes]] = ({}, {})

    def run(self) -> Iterator[Difference]:
        """Walk both trees where both have a directory."""
        wanted, found = self._roots
        yield from self._metadata(b".", (wanted, os.fstat(wanted)), (found, os.fstat(found)))
        pending = [b"."]
        while pending:
            path = pending.pop()
            fds: list[int] = []
            try:
                for root in self._roots:
                    fds.append(open_beneath(root, path, _DIR))
                below: list[bytes] = []
                yield from self._directory(path, fds[0], fds[1], below)
            finally:
                for fd in fds:
                    os.close(fd)
            pending += reversed(below)

    def _directory(
        self, path: bytes, wanted: int, found: int, below: list[bytes]
    ) -> Iterator[Difference]:
        """Compare what is in two directories; add those that both have to *below*."""
        there = set(_listed(found))
        for name in sorted(there.union(expected := set(_listed(wanted)))):
            full = name if path == b"." else path + b"/" + name
            if name not in there:
                st = os.stat(name, dir_fd=wanted, follow_symlinks=False)
                yield Difference(full, f"is missing (a {_kind(wanted, name, st)})")
            elif name not in expected:
                st = os.stat(name, dir_fd=found, follow_symlinks=False)
                yield Difference(full, f"was not there (a {_kind(found, name, st)})")
            else:
                yield from self._entry(full, wanted, found, name, below)

    def _entry(
        self, path: bytes, wanted: int, found: int, name: bytes, below: list[bytes]
    ) -> Iterator[Difference]:
        old = os.stat(name, dir_fd=wanted, follow_symlinks=False)
        new = os.stat(name, dir_fd=found, follow_symlinks=False)
        kind, expected = _kind(found, name, new), _kind(wanted, name, old)
        if kind != expected:
            yield Difference(path, f"is a {kind} instead of a {expected}")
            return
        if kind == _WHITEOUT:
            return  # nobody sees more of it
        yield from self._metadata(
            path, (name_path(wanted, name), old), (name_path(found, name), new)
        )
        if stat.S_ISDIR(old.st_mode):
            below.append(path)
            return
        yield from self._links(path, old, new)
        if stat.S_ISLNK(old.st_mode):
            yield from _target(path, *(os.readlink(name, dir_fd=fd) for fd in (wanted, found)))
        elif (
            stat.S_ISREG(old.st_mode)
            and old.st_size == new.st_size
            and self._has_content(path, name_path(wanted, name), old)
            and not _same_content(wanted, found, name)
        ):
            yield Difference(path, "has other content")

    def _has_content(self, path: bytes, target: bytes, st: os.stat_result) -> bool:
        """Return whether the file *target* has its bytes; what stands for a link always does."""
        if self._with_content is None or path in self._with_content:
            return True
        return override.kind_of(st, target, self._spelling) == stat.S_IFLNK

    def _metadata(
        self,
        path: bytes,
        wanted: tuple[int | bytes, os.stat_result],
        found: tuple[int | bytes, os.stat_result],
    ) -> Iterator[Difference]:
        (old_target, old), (new_target, new) = wanted, found
        modes = stat.S_IMODE(old.st_mode), stat.S_IMODE(new.st_mode)
        if modes[0] != modes[1]:
            yield Difference(path, f"has mode {modes[1]:04o} instead of {modes[0]:04o}")
        owners = [f"{st.st_uid}:{st.st_gid}" for st in (old, new)]
        if owners[0] != owners[1]:
            yield Difference(path, f"belongs to {owners[1]} instead of {owners[0]}")
        if old.st_mtime_ns != new.st_mtime_ns:
            says = f"was modified at {_time(new)} instead of {_time(old)}"
            yield Difference(path, says)
        if stat.S_ISREG(old.st_mode) and old.st_size != new.st_size:
            yield Difference(path, f"has {new.st_size} bytes instead of {old.st_size}")
        if old.st_rdev != new.st_rdev:
            yield Difference(path, "is another device")
        yield from _attributes(path, old_target, new_target)

    def _links(self, path: bytes, old: os.stat_result, new: os.stat_result) -> Iterator[Difference]:
        """Compare of which earlier names *path* is the same file."""
        if old.st_nlink == new.st_nlink == 1:
            return
        firsts = [
            names.setdefault((st.st_dev, st.st_ino), path)
            for names, st in zip(self._names, (old, new), strict=True)
        ]
        if firsts[0] == firsts[1]:
            return
        if firsts[0] != path:
            yield Difference(path, f"is not the same file as {os.fsdecode(firsts[0])} any more")
        else:
            yield Difference(path, f"is the same file as {os.fsdecode(firsts[1])}, and was not")


def _attributes(path: bytes, wanted: int | bytes, found: int | bytes) -> Iterator[Difference]:
    old, new = (_of_image(xattr.get_all(target)) for target in (wanted, found))
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield Difference(path, f"has lost its attribute {os.fsdecode(name)}")
        elif name not in old:
            yield Difference(path, f"has an attribute {os.fsdecode(name)} that it had not")
        elif old[name] != new[name]:
            yield Difference(path, f"has another value of {os.fsdecode(name)}")


def _of_image(attributes: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return *attributes* but for those that this machine gives its files by itself."""
    return {name: value for name, value in attributes.items() if name not in HOST_ATTRIBUTES}


def _target(path: bytes, old: bytes, new: bytes) -> Iterator[Difference]:
    if old != new:
        says = f"has the target {os.fsdecode(new)} instead of {os.fsdecode(old)}"
        yield Difference(path, says)


def _same_content(wanted: int, found: int, name: bytes) -> bool:
    """Return whether two files of one size have the same bytes; False where one gives none."""
    fds: list[int] = []
    try:
        for directory in (wanted, found):
            fds.append(os.open(name, _READ, dir_fd=directory))
        offset = 0
        while True:
            old, new = (os.pread(fd, _CHUNK, offset) for fd in fds)
            if old != new:
                return False
            if not old:
                return True
            offset += len(old)
    except OSError:
        return False
    finally:
        for fd in fds:
            os.close(fd)


def _listed(fd: int) -> Iterator[bytes]:
    return (os.fsencode(name) for name in os.listdir(fd))


def _kind(dir_fd: int, name: bytes, st: os.stat_result) -> str:
    """Return what *name* in *dir_fd* is called; a whiteout is one in either of its forms."""
    path = name_path(dir_fd, name)
    if is_whiteout(st) or any(is_whiteout_file(st, path, one.whiteout) for one in Flavour):
        return _WHITEOUT
    return _KINDS[stat.S_IFMT(st.st_mode)]


def _time(st: os.stat_result) -> str:
    return f"{st.st_mtime_ns // 10**9}.{st.st_mtime_ns % 10**9:09d}"

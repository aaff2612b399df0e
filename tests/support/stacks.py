"""Layer directories from a description: what a union filesystem has to show as one tree.

A stack is a sequence of layers, the bottom one first; a layer is a sequence of entries. Entries
print as the expression that makes them, so that a failing example can be pasted into a program.
Missing parents become directories of mode 0755. All times lie in the past and are set
explicitly, so that "unchanged" and "just now" can be told apart.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# What a driver may mark directories with: in a user namespace (``tests.support.userns``) user.*.
IN_NAMESPACE = bool(os.environ.get("UNIONFS_TEST_USERNS"))
# And there is not even a namespace: an ordinary user (``tests.support.ordinary``) by himself, who
# gives no file away and mounts by fusermount3 alone.
ORDINARY = bool(os.environ.get("UNIONFS_TEST_ORDINARY"))
MARKS = "user" if IN_NAMESPACE else "trusted"
Xattrs = tuple[tuple[str, bytes], ...]
PAST_NS = 1_000_000_000_123_456_789  # September 2001, with nanoseconds to lose


@dataclass(frozen=True)
class Dir:
    path: bytes
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    xattrs: Xattrs = ()
    opaque: bool = False

    def make(self, at: bytes) -> None:
        if not os.path.isdir(at):
            os.mkdir(at)
        _owner(self, at)
        if self.opaque:
            os.setxattr(at, f"{MARKS}.overlay.opaque", b"y")


@dataclass(frozen=True)
class File:
    """*fill* repeated up to *size* bytes, after a hole of *hole* bytes."""

    path: bytes
    fill: bytes = b"x"
    size: int = 10
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    xattrs: Xattrs = ()
    hole: int = 0

    def make(self, at: bytes) -> None:
        data = (self.fill * (self.size // len(self.fill) + 1))[: self.size]
        with open(at, "wb") as file:
            file.seek(self.hole)
            file.write(data)
            file.truncate(self.hole + self.size)
        _owner(self, at)


@dataclass(frozen=True)
class Symlink:
    path: bytes
    target: bytes = b"a"
    uid: int = 0
    gid: int = 0

    def make(self, at: bytes) -> None:
        os.symlink(self.target, at)
        if not ORDINARY:
            os.lchown(at, self.uid, self.gid)


@dataclass(frozen=True)
class Fifo:
    path: bytes
    mode: int = 0o600

    def make(self, at: bytes) -> None:
        os.mkfifo(at)
        os.chmod(at, self.mode)


@dataclass(frozen=True)
class Device:
    path: bytes
    major: int = 1
    minor: int = 3
    mode: int = 0o666

    def make(self, at: bytes) -> None:
        if IN_NAMESPACE:
            return  # nobody makes devices there
        os.mknod(at, stat.S_IFCHR | self.mode, os.makedev(self.major, self.minor))
        os.chmod(at, self.mode)


@dataclass(frozen=True)
class Whiteout:
    """*attribute*: an empty file with a mark, in a directory with a mark that there are such."""

    path: bytes
    attribute: bool = False

    def make(self, at: bytes) -> None:
        if not self.attribute:
            os.mknod(at, stat.S_IFCHR, 0)
            return
        os.close(os.open(at, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.setxattr(at, f"{MARKS}.overlay.whiteout", b"y")
        os.setxattr(os.path.dirname(at), f"{MARKS}.overlay.opaque", b"x")


@dataclass(frozen=True)
class Link:
    """Another name of *target*, which this same layer has already."""

    path: bytes
    target: bytes


Entry = Dir | File | Symlink | Fifo | Device | Whiteout | Link
Layer = Sequence[Entry]
Stack = Sequence[Layer]


def _owner(entry: Dir | File, at: bytes) -> None:
    if not ORDINARY:
        os.chown(at, entry.uid, entry.gid)
    os.chmod(at, entry.mode)
    for name, value in entry.xattrs:
        if not (IN_NAMESPACE and name.startswith("trusted.")):
            os.setxattr(at, name, value)


def build_layer(root: bytes, layer: Layer, *, generation: int = 0) -> None:
    """Make *layer* at *root*, which must not exist.

    An entry that an earlier one of the same layer makes impossible (a path below a file, a name
    that is there already) is left out: a random description still gives a layer.
    """
    os.mkdir(root)
    for entry in layer:
        _make(root, entry)
    _set_times(root, generation)


def _make(root: bytes, entry: Entry) -> None:
    at = root + b"/" + entry.path
    same = isinstance(entry, Dir) and os.path.isdir(at) and not os.path.islink(at)
    if os.path.lexists(at) and not same:
        return
    if not _parents(root, entry.path):
        return
    if isinstance(entry, Link):
        target = root + b"/" + entry.target
        if os.path.lexists(target) and not _is_dir_or_whiteout(target):
            os.link(target, at, follow_symlinks=False)
    else:
        entry.make(at)


def _is_dir_or_whiteout(at: bytes) -> bool:
    st = os.lstat(at)
    return stat.S_ISDIR(st.st_mode) or (stat.S_ISCHR(st.st_mode) and st.st_rdev == 0)


def _parents(root: bytes, path: bytes) -> bool:
    """Make the directories above *path*; return False where something else is in the way."""
    at = root
    for part in path.split(b"/")[:-1]:
        at += b"/" + part
        if os.path.islink(at):
            return False
        if not os.path.isdir(at):
            if os.path.lexists(at):
                return False
            os.mkdir(at)
    return True


def _set_times(root: bytes, generation: int) -> None:
    """Give every name its own past time, directories after what is in them."""
    number = generation * 10_000
    for folder, _dirs, files in os.walk(root, topdown=False):
        links = [name for name in _dirs if os.path.islink(os.path.join(folder, name))]
        for path in [os.path.join(folder, name) for name in sorted(files + links)] + [folder]:
            number += 1
            ns = PAST_NS + number * 1_000_000_001
            os.utime(path, ns=(ns, ns), follow_symlinks=False)


@dataclass(frozen=True)
class Layers:
    """What a union is mounted from; *lowers* topmost first. No upper: read-only."""

    lowers: tuple[bytes, ...]
    upper: bytes | None = None
    work: bytes | None = None

    def options(self) -> bytes:
        """Return the three options; no name of ours needs an escape."""
        words = [b"lowerdir=" + b":".join(self.lowers)]
        if self.upper is not None and self.work is not None:
            words += [b"upperdir=" + self.upper, b"workdir=" + self.work]
        return b",".join(words)

    def read_only(self) -> Layers:
        """The same tree without writing: the upper is the topmost lower."""
        if self.upper is None:
            return self
        return Layers((self.upper, *self.lowers))

    def next_generation(self, folder: bytes) -> Layers:
        """Put a new upper and work, made in *folder*, over everything that is there.

        The merged root is the upper's: the new one takes its owner, mode, times and attributes.
        """
        upper, work = _upper_and_work(folder)
        if self.upper is not None:
            _like(self.upper, upper)
        return Layers(self.read_only().lowers, upper, work)


def build_stack(folder: bytes, stack: Stack, *, writable: bool = True) -> Layers:
    """Make *stack* in *folder* (which must not exist), with an empty upper and work."""
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    lowers = []
    for number, layer in enumerate(stack):
        root = folder + b"/lower%d" % number
        build_layer(root, layer, generation=number)
        lowers.append(root)
    lowers.reverse()
    upper, work = _upper_and_work(folder) if writable else (None, None)
    return Layers(tuple(lowers), upper, work)


def _upper_and_work(folder: bytes) -> tuple[bytes, bytes]:
    number = sum(name.startswith(b"upper") for name in os.listdir(folder))
    upper, work = folder + b"/upper%d" % number, folder + b"/work%d" % number
    os.mkdir(upper)
    os.mkdir(work)
    os.utime(upper, ns=(PAST_NS, PAST_NS))
    return upper, work


def _like(old: bytes, new: bytes) -> None:
    st = os.stat(old)
    os.chown(new, st.st_uid, st.st_gid)
    os.chmod(new, stat.S_IMODE(st.st_mode))
    for name in os.listxattr(old):
        ours = name.startswith(f"{MARKS}.overlay.")
        if not ours or name.startswith(f"{MARKS}.overlay.overlay."):  # an escaped one is a user's
            os.setxattr(new, name, os.getxattr(old, name))
    os.utime(new, ns=(st.st_atime_ns, st.st_mtime_ns))


def rich_stack() -> Stack:
    """Return a stack with one of everything: for tests that want a real-looking tree."""
    long = b"n" * 255
    bottom: Layer = (
        Dir(b".", 0o755),
        Dir(b"dir", 0o750, 1000, 1000, xattrs=(("user.dir", b"bottom"),)),
        File(b"dir/plain", b"bottom ", 7000, 0o640, 1000, 1001),
        File(b"dir/hidden", b"never seen "),
        File(b"dir/sub/deep/file", b"deep "),
        File(b"merged/one", b"1"),
        Dir(b"merged/common", 0o700),
        File(b"merged/common/low", b"low"),
        Dir(b"opaque", 0o755),
        File(b"opaque/below", b"never seen"),
        File(b"becomes-dir", b"a file below"),
        File(b"becomes-file/inside", b"a directory below"),
        File(b"links/first", b"linked ", 5000),
        Link(b"links/second", b"links/first"),
        Link(b"links-third", b"links/first"),
        Symlink(b"symlink", b"dir/plain", 1000, 1000),
        Symlink(b"dangling", b"../no/where"),
        Fifo(b"fifo"),
        Device(b"null"),
        File(b"sparse", b"end", 3, hole=3_000_000),
        File(b"suid", b"#!/bin/true\n", 12, 0o4755),
        File(b"sgid", b"#!/bin/true\n", 12, 0o2755, 0, 1000),
        Dir(b"sticky", 0o1777),
        Dir(b"setgid", 0o2775, 0, 1000),
        File(b"attrs", b"x", xattrs=(("user.one", b"1"), ("user.empty", b""), ("trusted.t", b"t"))),
        File(long, b"long name"),
        File(b"not-utf8-\xff\xfe", b"bytes"),
        File(b"with space, comma: colon \\ back", b"odd"),
        File(b"new\nline", b"odd"),
        File(b"empty", b"x", 0),
        File(b"secret", b"x", 10, 0o000),
        File(b"gone", b"never seen"),
        File(b"gone-dir/child", b"never seen"),
    )
    middle: Layer = (
        Whiteout(b"dir/hidden"),
        Whiteout(b"gone"),
        Whiteout(b"gone-dir"),
        Dir(b"merged", 0o711),
        File(b"merged/two", b"2"),
        File(b"merged/common/mid", b"mid"),
        Dir(b"opaque", 0o755, opaque=True),
        File(b"opaque/above", b"seen"),
        Dir(b"becomes-dir", 0o755),
        File(b"becomes-dir/inside", b"new"),
        File(b"becomes-file", b"new"),
    )
    top: Layer = (
        File(b"merged/three", b"3"),
        File(b"merged/common/top", b"top"),
        Dir(b"gone-dir", 0o700),
        File(b"gone-dir/again", b"made again"),
        File(b"dir/sub/other", b"other"),
        Whiteout(b"merged/one"),
    )
    return (bottom, middle, top)


def names(stack: Iterable[Layer]) -> set[bytes]:
    """Return every path that *stack* speaks of."""
    return {entry.path for layer in stack for entry in layer}

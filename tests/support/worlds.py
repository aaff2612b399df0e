"""A union on plain directories, used through its request handlers with no FUSE underneath.

``World`` plays the kernel: it looks names up from the root and runs a handler to its end by itself;
copies that would go to a thread are made at once. What it shows (``dump``) can be compared with a
second world on the same directories, which knows nothing but what is on the disk, and with the
kernel's overlayfs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyfuse3
import pytest
import trio

from unionfs.fuse.operations import Operations
from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls.mount import mount, umount
from unionfs.union.layer import FdPool, Layer
from unionfs.union.tree import Tree
from unionfs.upper.upper import Upper
from unionfs.upper.work import WorkDir

ROOT = SimpleNamespace(uid=0, gid=0, pid=1, umask=0)
KERNEL_OPTIONS = b",redirect_dir=on,index=on,xino=on"


class Seen(NamedTuple):
    """What a program sees of one name. Directories have neither size nor links: nobody agrees."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    nlink: int
    rdev: int
    content: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]


def seen(
    st: Any, content: bytes, xattrs: dict[bytes, bytes], *, directory_times: bool = True
) -> Seen:
    """Return what *st* (of os.stat, or EntryAttributes) and the rest come to."""
    is_dir = stat.S_ISDIR(st.st_mode)
    return Seen(
        mode=st.st_mode,
        uid=st.st_uid,
        gid=st.st_gid,
        size=0 if is_dir else st.st_size,
        mtime=st.st_mtime_ns if directory_times or not is_dir else 0,
        nlink=0 if is_dir else st.st_nlink,
        rdev=st.st_rdev,
        content=content,
        xattrs=tuple(sorted(xattrs.items())),
    )


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a handler that waits for nothing to its end and return its answer."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("the handler waits for something")


async def _no_turn() -> None:
    """Stands for giving others a turn where there are none."""


@contextmanager
def without_threads(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make what goes to a thread run at once, so that handlers run without an event loop."""

    async def at_once(function: Any, *args: Any) -> Any:
        return function(*args)

    with patch.context() as context:
        context.setattr(trio.to_thread, "run_sync", at_once)
        context.setattr(trio.lowlevel, "checkpoint", _no_turn)
        context.setattr(pyfuse3, "invalidate_inode", lambda *args, **kwargs: None)
        context.setattr(pyfuse3, "invalidate_entry_async", lambda *args, **kwargs: None)
        yield


class World:
    """One union in *folder* (with ``upper`` and ``work``) over *lowers*, topmost first."""

    def __init__(
        self,
        folder: bytes,
        lowers: tuple[bytes, ...],
        *,
        flavour: Flavour = Flavour.TRUSTED,
        redirect_dir: bool = True,
        descriptors: int = 256,
        read_only: bool = False,
        work: WorkDir | None = None,
    ) -> None:
        self.upperdir, self.workdir = folder + b"/upper", folder + b"/work"
        self.lowers = lowers
        for path in (folder, self.upperdir, self.workdir):
            if not os.path.isdir(path):
                os.mkdir(path, 0o755)
        pool = FdPool(descriptors)
        paths = (self.upperdir, *lowers)
        layers = [Layer(path, number, flavour, pool) for number, path in enumerate(paths)]
        self._closed = False
        self._guest = work is not None
        self.work = work
        if work is None:
            self.work = WorkDir(self.workdir, wait=0.0, writable=not read_only)
        self.tree = Tree(layers, pool)
        self.upper = Upper(self.tree, self.work, redirect_dir=redirect_dir) if self.work else None
        self.ops = Operations(self.tree, self.upper, read_only=read_only)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave as a daemon does that was told to; more than once is fine."""
        if self._closed:
            return
        self._closed = True
        self._let_go()
        if self._guest and self.upper is not None and self.upper.index_fd >= 0:
            os.close(self.upper.index_fd)
        elif self.upper is not None and not self._guest:
            self.upper.close()
        self.tree.close()

    def anew(self) -> dict[bytes, Seen]:
        """Return what somebody sees who knows nothing but what is on the disk."""
        with World(os.path.dirname(self.upperdir), self.lowers, work=self.work) as other:
            return other.dump()

    def abandon(self) -> None:
        """Leave as a daemon does that was killed: only the descriptors go."""
        self._closed = True
        self._let_go()
        if self.upper is not None and self.work is not None:
            if self.upper.index_fd >= 0:
                os.close(self.upper.index_fd)
            os.close(self.work.fd)
            os.close(self.work._root)
        self.tree.close()

    def _let_go(self) -> None:
        """Close what a daemon leaves to the end of its process."""
        self.ops.files.close_all()
        for node in self.nodes():
            if node.anchor >= 0:
                os.close(node.anchor)
                node.anchor = -1

    def nodes(self) -> Iterator[Any]:
        """Return every node that the tree or the kernel's table knows."""
        stack = [self.tree.root, *self.ops.inodes._nodes.values()]
        done = set()
        while stack:
            node = stack.pop()
            if id(node) not in done:
                done.add(id(node))
                yield node
                stack += (node.children or {}).values()

    # --- the kernel's part ------------------------------------------------------------------------

    def lookup(self, path: bytes) -> int:
        """Return the number of *path* (relative; empty for the root). Raises OSError."""
        ino = pyfuse3.ROOT_INODE
        for name in path.split(b"/") if path else ():
            ino = self._child(ino, name)
        return ino

    def _child(self, parent: int, name: bytes) -> int:
        attr = self.do("lookup", parent, name, ROOT)
        if attr.st_ino == 0:
            raise FileNotFoundError(2, "lookup found nothing", name)
        return attr.st_ino

    def do(self, handler: str, *args: Any) -> Any:
        """Run *handler* and return its answer. Raises OSError for FUSEError."""
        try:
            return run(getattr(self.ops, handler)(*args))
        except pyfuse3.FUSEError as error:
            raise OSError(error.errno, os.strerror(error.errno), handler) from None

    def node(self, path: bytes) -> Any:
        """Return the node of *path*."""
        return self.ops.inodes[self.lookup(path)]

    def at(self, path: bytes) -> tuple[int, bytes]:
        """Return the number of the directory of *path*, and the name in it."""
        parent, _, name = path.rpartition(b"/")
        return self.lookup(parent), name

    # --- calls, by path ---------------------------------------------------------------------------

    def create(self, path: bytes, data: bytes = b"", mode: int = 0o644, ctx: Any = ROOT) -> None:
        info, _ = self.do("create", *self.at(path), stat.S_IFREG | mode, os.O_RDWR, ctx)
        if data:
            self.do("write", info.fh, 0, data)
        self.do("release", info.fh)

    def write(self, path: bytes, data: bytes, flags: int = os.O_WRONLY) -> None:
        handle = self.open(path, flags)
        try:
            self.do("write", handle, 0, data)
        finally:
            self.do("release", handle)

    def open(self, path: bytes, flags: int) -> int:
        return int(self.do("open", self.lookup(path), flags, ROOT).fh)

    def read(self, path: bytes) -> bytes:
        handle = self.open(path, os.O_RDONLY)
        try:
            return bytes(self.do("read", handle, 0, 1 << 20))
        finally:
            self.do("release", handle)

    def mkdir(self, path: bytes, mode: int = 0o755, ctx: Any = ROOT) -> None:
        self.do("mkdir", *self.at(path), stat.S_IFDIR | mode, ctx)

    def mknod(self, path: bytes, mode: int, rdev: int = 0) -> None:
        self.do("mknod", *self.at(path), mode, rdev, ROOT)

    def symlink(self, path: bytes, target: bytes) -> None:
        self.do("symlink", *self.at(path), target, ROOT)

    def link(self, path: bytes, new: bytes) -> None:
        self.do("link", self.lookup(path), *self.at(new), ROOT)

    def unlink(self, path: bytes) -> None:
        self.do("unlink", *self.at(path), ROOT)

    def rmdir(self, path: bytes) -> None:
        self.do("rmdir", *self.at(path), ROOT)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        self.do("rename", *self.at(old), *self.at(new), flags, ROOT)

    def setxattr(self, path: bytes, name: bytes, value: bytes) -> None:
        self.do("setxattr", self.lookup(path), name, value, ROOT)

    def getattr(self, path: bytes) -> Any:
        return self.do("getattr", self.lookup(path), ROOT)

    def setattr(self, path: bytes, **fields: int) -> None:
        """Set ``mode=``, ``uid=``, ``gid=``, ``size=``, ``mtime_ns=``."""
        self.setattr_of(self.lookup(path), **fields)

    def setattr_of(self, ino: int, **fields: int) -> None:
        attr = pyfuse3.EntryAttributes()
        names = ("mode", "uid", "gid", "size", "atime", "mtime")
        update = SimpleNamespace(**{"update_" + name: False for name in names})
        for name, value in fields.items():
            setattr(attr, "st_" + name, value)
            setattr(update, "update_" + name.removesuffix("_ns"), True)
        self.do("setattr", ino, attr, update, None, ROOT)

    def names(self, path: bytes) -> list[bytes]:
        """List the directory *path*, sorted."""
        return sorted(self.tree.load(self.node(path)))

    # --- looking at the whole ---------------------------------------------------------------------

    def dump(self) -> dict[bytes, Seen]:
        """Return everything the union shows, by path; the root is the empty path."""
        return {path: self._seen(ino) for path, ino in self.walk()}

    def numbers(self) -> dict[bytes, int]:
        """Return the inode number of every path."""
        return dict(self.walk())

    def walk(self) -> Iterator[tuple[bytes, int]]:
        """Yield every path with its number, parents first."""
        stack = [(b"", pyfuse3.ROOT_INODE)]
        while stack:
            path, ino = stack.pop()
            yield path, ino
            node = self.ops.inodes[ino]
            if node.is_dir:
                for name in sorted(self.tree.load(node), reverse=True):
                    stack.append((_join(path, name), self._child(ino, name)))

    def _seen(self, ino: int) -> Seen:
        st = self.do("getattr", ino, ROOT)
        content = b""
        if stat.S_ISREG(st.st_mode):
            handle = int(self.do("open", ino, os.O_RDONLY, ROOT).fh)
            content = bytes(self.do("read", handle, 0, 1 << 20))
            self.do("release", handle)
        elif stat.S_ISLNK(st.st_mode):
            content = self.do("readlink", ino, ROOT)
        names = self.do("listxattr", ino, ROOT)
        return seen(st, content, {name: self.do("getxattr", ino, name, ROOT) for name in names})


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def disk_dump(root: bytes) -> dict[bytes, Seen]:
    """Return what the directory *root* shows, as ``World.dump`` does."""
    shown: dict[bytes, Seen] = {}
    stack = [b""]
    while stack:
        path = stack.pop()
        full = _join(root, path) if path else root
        st = os.lstat(full)
        content = b""
        if stat.S_ISREG(st.st_mode):
            with open(full, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(full)
        elif stat.S_ISDIR(st.st_mode):
            stack += [_join(path, name) for name in os.listdir(full)]
        names = map(os.fsencode, os.listxattr(full, follow_symlinks=False))
        values = {name: os.getxattr(full, name, follow_symlinks=False) for name in names}
        shown[path] = seen(st, content, values)
    return shown


def kernel_dump(world: World) -> dict[bytes, Seen]:
    """Return what the kernel's overlayfs shows of the directories of *world*, which is closed."""
    target = os.path.dirname(world.upperdir) + b"/merged"
    os.makedirs(target, exist_ok=True)
    data = b"lowerdir=%b,upperdir=%b,workdir=%b" % (
        b":".join(world.lowers),
        world.upperdir,
        world.workdir,
    )
    mount(b"overlay", target, b"overlay", 0, data + KERNEL_OPTIONS)
    try:
        return disk_dump(target)
    finally:
        umount(target)


def differences(left: dict[bytes, Seen], right: dict[bytes, Seen]) -> list[str]:
    """Return a line for each path and field in which two dumps differ."""
    lines = []
    for path in sorted(left.keys() | right.keys()):
        one, other = left.get(path), right.get(path)
        if one is None or other is None:
            lines.append(f"{path!r}: {'not ' if one is None else ''}left, " + repr(one or other))
            continue
        for field, mine, theirs in zip(Seen._fields, one, other, strict=True):
            if mine != theirs:
                lines.append(f"{path!r}: {field}: {mine!r} / {theirs!r}")
    return lines

"""One upper by turns of our union and the kernel's overlayfs, whose features change every time.

``overlay_example`` lets two drivers do the same at the same time; here one upper (and one work
directory) has a history: each turn mounts it in another way, does something, and leaves it. After
each turn we, without our extension and read-only too, must show what the kernel shows of it, down
to the inode numbers of files, and ``check`` must find no fault.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from tests.support import trees
from tests.support.answers import stamp
from tests.support.mounts import UNION_OPTIONS, KernelOverlay, Mounted, SessionMount, Spawners
from tests.support.ops import Op, World, perform
from tests.support.picks import resolve
from tests.support.stacks import Layers, Stack, build_stack
from unionfs.ondisk.flavour import Flavour
from unionfs.upper.check import check_upper

# What a turn's numbers choose from; the last of the first only where nothing was renamed.
REDIRECTS = ("on", "follow", "off", "nofollow")
XINO = ("on", "off", "auto")
UUID = ("on", "auto", "null")


class Turn(NamedTuple):
    """*driver*: "kernel", "union" or "pure". The rest is for the kernel: numbers to choose by."""

    driver: str
    ops: Sequence[Op]
    redirect: int = 0
    xino: int = 0
    uuid: int = 0
    index: bool = True
    nfs_export: bool = False
    volatile: bool = False
    generation: bool = False  # the upper becomes a lower first


class Mismatch(AssertionError):
    """What one driver wrote is not what another one shows."""


class History:
    """The turns of one upper in *folder*, which must not exist."""

    def __init__(
        self,
        folder: bytes,
        stack: Stack,
        spawners: Spawners,
        *,
        metacopy: bool = False,
        userxattr: bool = False,
    ) -> None:
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        self.folder, self.spawners = folder, spawners
        self.metacopy, self.userxattr = metacopy, userxattr
        self.layers = build_stack(folder + b"/s", stack)
        self._marked = any(map(_has_marks, self.layers.lowers))
        self.exported = False  # whether everything is in the index, or was once
        self._pure = os.environ.get("UNIONFS_PURE", "")
        self._count = 0
        self.done: list[str] = []

    def run(self, turns: Sequence[Turn]) -> None:
        """Do the *turns* and compare after each. Raises Mismatch."""
        for turn in turns:
            if turn.generation:
                self.layers = self.layers.next_generation(self.folder + b"/s")
                self._marked = True
            options = self._options(turn)
            self.done.append(f"{turn.driver} {options.decode()}")
            with self._mounted(turn, options) as mount:
                self._do(World(turn.driver, mount.root), turn.ops)
                after = _snapshot(mount.root)
            if b"volatile" in options and turn.driver == "kernel":
                self._settle()
            if turn.driver == "kernel":  # its d_ino is not always its st_ino
                after.faults.clear()
            self._compare(after)

    def _options(self, turn: Turn) -> bytes:
        """Return the kernel's options: those of *turn* that what is there already allows."""
        if self.userxattr:
            return f"userxattr,xino={XINO[turn.xino % 3]},uuid={UUID[turn.uuid % 3]}".encode()
        follow = self._any_redirects()
        redirect = REDIRECTS[turn.redirect % (3 if follow else 4)] if not self.metacopy else "on"
        index = turn.index or self._any_links()
        export = turn.nfs_export and index and not self.metacopy
        self.exported |= export and turn.driver == "kernel"
        said = {
            "redirect_dir": redirect,
            "index": "on" if index else "off",
            "xino": XINO[turn.xino % 3],
            "uuid": UUID[turn.uuid % 3],
            "metacopy": "on" if self.metacopy else "off",
            "nfs_export": "on" if export else "off",
        }
        words = [f"{name}={value}" for name, value in said.items()]
        return ",".join(words + ["volatile"] * turn.volatile).encode()

    def _any_redirects(self) -> bool:
        layers = (self.layers.upper, *self.layers.lowers)
        return any(b"redirect" in names for layer in layers for names in _all_names(layer))

    def _any_links(self) -> bool:
        """Return whether a lower file has several names: without an index they come apart."""
        return any(
            os.lstat(folder + b"/" + name).st_nlink > 1
            for lower in self.layers.lowers
            for folder, _, names in os.walk(lower)
            for name in names
        )

    def _target(self) -> bytes:
        self._count += 1
        return self.folder + b"/m%d" % self._count

    @contextmanager
    def _mounted(self, turn: Turn, options: bytes) -> Iterator[Mounted]:
        if turn.driver == "kernel":
            with KernelOverlay(self.layers, self._target(), options=options) as mount:
                yield mount
            return
        with self._union(self.layers, pure=turn.driver == "pure") as mount:
            yield mount

    @contextmanager
    def _union(self, layers: Layers, *more: bytes, pure: bool = False) -> Iterator[Mounted]:
        os.environ["UNIONFS_PURE"] = "1" if pure else self._pure
        spawner, options = self.spawners.chosen(), (*UNION_OPTIONS, *more)
        if self.userxattr:
            options = (*options, b"userxattr", b"redirect_dir=off")
        with SessionMount(layers, self._target(), spawner, options=options) as mount:
            yield mount

    def _do(self, world: World, ops: Sequence[Op]) -> None:
        for op in ops:
            op = resolve(op, world)
            self.done.append(f"  {op!r} -> {perform(world, op)!r}")

    def _settle(self) -> None:
        """Say that what was written without syncing is on the disk."""
        assert self.layers.work is not None
        shutil.rmtree(self.layers.work + b"/work/incompat")

    def _compare(self, after: trees.Tree) -> None:
        words = b"redirect_dir=on,index=on,xino=on" + b",metacopy=on" * self.metacopy
        if self.userxattr:
            words = b"userxattr"
        with KernelOverlay(self.layers, self._target(), options=words) as mount:
            kernels = _snapshot(mount.root)
            kernels.faults.clear()
        self._same(after, kernels, "before", "kernel")
        # The kernel counts an index's own name of a file that has one because of nfs_export.
        more = ("ino",) if self.exported else ("ino", "nlink")
        if self.userxattr:  # of links and special files the kernel keeps no origin, we do
            more = ("nlink",)
        for pure in (False, True):
            with self._union(self.layers, pure=pure) as mount:
                self._same(kernels, _snapshot(mount.root), "kernel", "union", *more)
        with self._union(self.layers, b"ro") as mount:
            self._same(kernels, _snapshot(mount.root), "kernel", "union, ro", *more)
        if not self._any_links():  # what the index knows is lost without it
            with self._union(self.layers.read_only()) as mount:
                self._same(kernels, _snapshot(mount.root), "kernel", "union of lowers")
        self._check()

    def _same(self, a: trees.Tree, b: trees.Tree, left: str, right: str, *more: str) -> None:
        fields = [name for name in trees.FIELDS if name not in ("nlink", "links")]
        for tree in (a, b):  # those of directories that were cut off the kernel gives a new one
            for path, node in tree.nodes.items():
                if node.kind == "dir":
                    tree.nodes[path] = replace(node, ino=0)
        text = trees.report(a, b, (left, right), fields=[*fields, *more])
        if text:
            raise Mismatch("\n".join([*self.done, text]))

    def _check(self) -> None:
        """``unionfs check`` finds no fault; it knows only lowers without marks, as in a store."""
        layers = self.layers
        if self._marked:
            return
        assert layers.upper is not None
        assert layers.work is not None
        flavour = Flavour.USER if self.userxattr else Flavour.TRUSTED
        flaws = list(check_upper(layers.lowers, layers.upper, layers.work, flavour))
        found = [f"check: {one.path!r}: {one.says}" for one in flaws if not one.harmless]
        if found:
            raise Mismatch("\n".join([*self.done, *found]))


def _snapshot(root: bytes) -> trees.Tree:
    return trees.snapshot(root, stamp=stamp)


def _all_names(layer: bytes | None) -> Iterator[bytes]:
    """Yield the names of the attributes of each directory and file of *layer*, as one string."""
    assert layer is not None
    for folder, _, names in os.walk(layer):
        for path in (folder, *(folder + b"/" + name for name in names)):
            yield " ".join(os.listxattr(path, follow_symlinks=False)).encode()


def _has_marks(layer: bytes) -> bool:
    return any(b"overlay.redirect" in names for names in _all_names(layer))

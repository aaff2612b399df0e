"""One example of the property tests: the same operations on a plain tree, the kernel's overlayfs
and our union, compared step by step.

Three worlds begin the same: two copies of a stack, one mounted by the kernel and one by us, and a
plain copy of what the kernel shows. Beside file operations a sequence may hold

* ``compare``: look at all three trees as a whole,
* ``remount``: unmount and mount both again,
* ``forget``: let the kernel forget what nobody uses, so that it has to ask again,
* ``swap``: the kernel mounts what we wrote and we mount what the kernel wrote,
* ``generation``: the upper becomes the topmost lower of a new stack.

Every example ends with ``compare``, ``swap``.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from tests.support import kernel, parity, trees
from tests.support.answers import STAT_FIELDS, stamp
from tests.support.identity import Identity
from tests.support.mounts import KernelOverlay, Mounted
from tests.support.ops import HANDLE_OPERATIONS, Op, World, perform
from tests.support.picks import resolve
from tests.support.stacks import IN_NAMESPACE, Layers, Stack, build_stack

READING = frozenset(
    [
        "stat",
        "read",
        "listdir",
        "readlink",
        "getxattr",
        "listxattr",
        "access",
        "hread",
        "hstat",
        "hgetxattr",
        "hlistdir",
    ]
)
CHANGING_REMOVED = HANDLE_OPERATIONS - READING - {"close"}
_LASTING = ("tree.name", "tree.mtime")  # differences that would be there after a swap, too
Mounter = Callable[[Layers, bytes], Mounted]


class Mismatch(AssertionError):
    """An answer or a tree that is not as it must be."""


class EndOfExample(Exception):
    """A known difference made the plain tree another one: nothing more can be compared."""


class Example:
    """The three worlds of one example, in *folder*, which must not exist.

    *options* are those of the kernel's overlayfs; None: it is left out (``overlay_alone``).
    """

    def __init__(
        self,
        folder: bytes,
        stack: Stack,
        mount_union: Mounter,
        rows: Sequence[parity.Row],
        options: bytes | None,
    ) -> None:
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        self.folder, self.mount_union, self.rows = folder, mount_union, rows
        self.options = options
        self.kernel_layers = build_stack(folder + b"/k", stack) if options else None
        self.union_layers = build_stack(folder + b"/u", stack)
        self._mounts = ExitStack()
        self._count = 0
        # tmpfs never gives an inode number twice, so a number there is a file for ever.
        tmpfs = kernel.mounted_at(os.path.dirname(folder)) == b"tmpfs"
        self._identity: Identity | None = Identity() if tmpfs else None
        self.done: list[Op] = []
        self.used: list[parity.Row] = []  # the known differences that were met
        self.plain = World("plain directory", b"")
        self.kernel = World("kernel overlayfs", b"") if options else None
        self.union = World("union", b"")
        self._begin()

    def _begin(self) -> None:
        assert self.kernel is not None
        self._mount()
        self._copy_plain(self.kernel.root)

    def __enter__(self) -> Example:
        return self

    def __exit__(self, *error) -> None:
        self._close_handles()
        self._mounts.__exit__(*error)

    def run(self, sequence: Sequence[Op]) -> None:
        try:
            for op in (*sequence, Op("compare", ()), Op("swap", ())):
                op = resolve(op, self.plain)
                self.done.append(op)
                special = getattr(self, f"_do_{op.name}", None)
                if special is not None:
                    special()
                else:
                    self._do(op)
        except EndOfExample:
            pass

    # --- operations ------------------------------------------------------------------------------

    def _do(self, op: Op) -> None:
        plain = perform(self.plain, op)
        theirs = perform(self.kernel, op) if self.kernel else None
        ours = perform(self.union, op)
        # Without the kernel's answer a row of the table has to say that it would be ours.
        kernels = theirs if self.kernel else ours
        if op.name in ("stat", "hstat") and not any(
            isinstance(one, str) for one in (plain, kernels, ours)
        ):
            for field, *answers in zip(STAT_FIELDS, plain, kernels, ours, strict=True):
                self._check(op, f"{op.name}.{field}", *answers)
        else:
            self._check(op, op.name, plain, kernels, ours)
        if op.name in CHANGING_REMOVED and self.kernel is not None and self._is_removed(*op.args):
            self._do_compare()

    def _is_removed(self, slot: int, *_rest) -> bool:
        """Return whether what is open in *slot* has no name any more.

        A change of it may give it one again in the kernel's overlayfs (see the exceptions table):
        that is looked for at once, before a later step meets the name.
        """
        fd = self.plain.handles.get(slot)
        return fd is not None and os.fstat(fd).st_nlink == 0

    def _check(self, op: Op, call: str, plain, kernels, ours) -> None:
        verdict = self._verdict(call, plain, kernels, ours)
        if not verdict.right:
            raise Mismatch(
                f"step {len(self.done)}: {op!r}: {call}\n  plain directory:  {plain!r}\n"
                f"  kernel overlayfs: {kernels!r}\n  union:            {ours!r}"
            )
        if verdict.row is not None and op.name not in READING:
            if ours != plain:
                raise EndOfExample
            self._drop_kernel()

    def _verdict(self, call: str, plain, kernels, ours) -> parity.Verdict:
        verdict = parity.judge(self.rows, call, plain, kernels, ours)
        if verdict.row is not None:
            self.used.append(verdict.row)
        return verdict

    def _drop_kernel(self) -> None:
        """The kernel did otherwise than a plain directory and we: its tree is another one now."""
        if self.kernel is not None:
            self.kernel.close_all()
        self.kernel = None

    def _kernels_tree(self) -> trees.Tree | None:
        """Return the kernel's tree, None where there is none or (see the table) none any more."""
        if self.kernel is None:
            return None
        try:
            return trees.snapshot(self.kernel.root, stamp=stamp)
        except OSError as error:
            answer = errno.errorcode[error.errno or 0]
            if not self._verdict("tree", "readable", answer, "readable").right:
                raise
            self._drop_kernel()
            return None

    def _do_compare(self) -> None:
        plain = trees.snapshot(self.plain.root, stamp=stamp)
        kernels = self._kernels_tree()
        ours = trees.snapshot(self.union.root, stamp=stamp)
        self._compare("", plain, kernels, ours)
        if self._identity is not None and (lines := self._identity.compare(plain, ours)):
            raise Mismatch(f"step {len(self.done)}: not the same files\n  " + "\n  ".join(lines))

    def _do_remount(self) -> None:
        self._unmount()
        self._mount()

    def _do_forget(self) -> None:
        if not IN_NAMESPACE:  # only the machine's root may
            kernel.forget()

    def _do_generation(self) -> None:
        """Begin again with more layers; the plain tree too, from what the kernel shows now.

        (A new work directory has no index: hard links that were copied up are links no more.)
        """
        if self.kernel is None or self.kernel_layers is None:
            raise EndOfExample
        self._unmount()
        self.kernel_layers = self.kernel_layers.next_generation(self.folder + b"/k")
        self.union_layers = self.union_layers.next_generation(self.folder + b"/u")
        self._forget_identity()
        self._begin()

    def _forget_identity(self) -> None:
        """Other directories are mounted from here on: other numbers."""
        if self._identity is not None:
            self._identity = Identity()

    def _copy_plain(self, root: bytes) -> None:
        self._count += 1
        self.plain.root = self.folder + b"/plain%d" % self._count
        os.mkdir(self.plain.root)
        words = ["cp", "-a", "--sparse=always", root + b"/.", self.plain.root]
        subprocess.run(words, check=True)

    def _do_swap(self) -> None:
        """Each driver shows what the other one wrote."""
        self._do_compare()  # a known difference that the kernel wrote is not ours to show
        self._unmount()
        if self.kernel is not None and self.kernel_layers is not None:
            self.kernel_layers, self.union_layers = self.union_layers, self.kernel_layers
            self._forget_identity()
            self._mount()
            self._do_compare()
            return
        self._look_by_kernel(self.union_layers, self.options)
        self._mount()

    def _look_by_kernel(self, layers: Layers, options: bytes | None) -> None:
        """Compare what the kernel shows of what we wrote."""
        assert options is not None
        with KernelOverlay(layers, self._target(b"k"), options=options) as there:
            seen = trees.snapshot(there.root, stamp=stamp)
        plain = trees.snapshot(self.plain.root, stamp=stamp)
        self._compare("the kernel on what we wrote: ", plain, seen, seen)

    # --- trees -----------------------------------------------------------------------------------

    def _compare(
        self, when: str, plain: trees.Tree, kernels: trees.Tree | None, ours: trees.Tree
    ) -> None:
        lines = [f"union: {fault}" for fault in ours.faults]
        kernel_nodes = (kernels or ours).nodes  # as in ``_do``
        for path in sorted(plain.nodes.keys() | kernel_nodes.keys() | ours.nodes.keys()):
            nodes = (plain.nodes.get(path), kernel_nodes.get(path), ours.nodes.get(path))
            lines += self._compare_nodes(path, *nodes)
        if lines:
            raise Mismatch(
                f"step {len(self.done)}: {when}trees differ (plain / kernel / union)\n  "
                + "\n  ".join(lines[:40])
            )

    def _compare_nodes(self, path: bytes, *nodes: trees.Node | None) -> list[str]:
        there = next(node for node in nodes if node is not None)
        if None in nodes:
            answers = tuple("missing" if node is None else node.kind for node in nodes)
            return self._judge(path, f"tree.name {there.kind}", *answers)
        lines = []
        for field in trees.FIELDS:
            answers = tuple(getattr(node, field) for node in nodes)
            lines += self._judge(path, f"tree.{field} {there.kind}", *answers)
        return lines

    def _judge(self, path: bytes, call: str, plain, kernels, ours) -> list[str]:
        verdict = self._verdict(call, plain, kernels, ours)
        if verdict.right:
            if verdict.row is not None and call.startswith(_LASTING):
                self._drop_kernel()
            return []
        return [f"{path!r}: {call}: {plain!r} / {kernels!r} / {ours!r}"]

    # --- mounts ----------------------------------------------------------------------------------

    def _target(self, kind: bytes) -> bytes:
        self._count += 1
        return self.folder + b"/m%d-%s" % (self._count, kind)

    def _mount(self) -> None:
        if self.kernel is not None and self.kernel_layers is not None and self.options:
            overlay = KernelOverlay(self.kernel_layers, self._target(b"k"), options=self.options)
            self.kernel.root = self._mounts.enter_context(overlay).root
        union = self.mount_union(self.union_layers, self._target(b"u"))
        self.union.root = self._mounts.enter_context(union).root

    def _unmount(self) -> None:
        self._close_handles()
        self._mounts.close()

    def _close_handles(self) -> None:
        for world in (self.plain, self.kernel, self.union):
            if world is not None:
                world.close_all()

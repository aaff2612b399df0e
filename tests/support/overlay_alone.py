"""An example of the property tests without the kernel's overlayfs: a plain directory and our union.

As in a user namespace, where the kernel's has no redirects and no index. It still says there what
the layers show before anything was done; and what it makes of what we wrote, where nothing of that
needs either.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from tests.support import parity, trees
from tests.support.answers import stamp
from tests.support.mounts import READING_OPTIONS, KernelOverlay
from tests.support.overlay_example import Example, Mounter
from tests.support.stacks import MARKS, Link, Stack


class Alone(Example):
    """The two worlds of one example, in *folder*, which must not exist."""

    def __init__(
        self, folder: bytes, stack: Stack, mount_union: Mounter, rows: Sequence[parity.Row]
    ) -> None:
        self._linked = any(isinstance(entry, Link) for layer in stack for entry in layer)
        super().__init__(folder, stack, mount_union, rows, None)

    def _begin(self) -> None:
        layers = self.union_layers.read_only()
        with KernelOverlay(layers, self._target(b"k"), options=READING_OPTIONS) as there:
            self._copy_plain(there.root)
        self._mount()

    def _verdict(self, call: str, plain, kernels, ours) -> parity.Verdict:
        """Of the links the rows leave the count to the kernel: here it may not be too small."""
        verdict = super()._verdict(call, plain, kernels, ours)
        few = ".nlink" in call and isinstance(plain, int) and ours < plain
        return parity.Verdict(False) if few else verdict

    def _do_generation(self) -> None:
        """Begin again with more layers. The plain tree stays, but for what links have become."""
        self._do_compare()
        self._unmount()
        self.union_layers = self.union_layers.next_generation(self.folder + b"/u")
        self._forget_identity()
        self._mount()
        plain = trees.snapshot(self.plain.root, stamp=stamp)
        ours = trees.snapshot(self.union.root, stamp=stamp)
        linked = {path for path, node in plain.nodes.items() if node.nlink > 1}
        assert linked <= ours.nodes.keys()
        for path in linked:
            del plain.nodes[path], ours.nodes[path]
        self._compare("the next generation: ", plain, None, ours)
        if linked:
            self._copy_plain(self.union.root)

    def _do_swap(self) -> None:
        """The kernel shows what we wrote, if it can, and so does the next mount of ours."""
        self._do_compare()
        self._unmount()
        layers = self.union_layers.read_only()
        if not self._linked and not any(map(_is_redirected, layers.lowers)):
            self._look_by_kernel(layers, READING_OPTIONS)
        self._mount()
        self._do_compare()


def _is_redirected(layer: bytes) -> bool:
    """Return whether *layer* has a directory with a redirect."""
    name = f"{MARKS}.overlay.redirect"
    return any(name in os.listxattr(folder) for folder, _, _ in os.walk(layer))

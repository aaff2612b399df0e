"""A layer's directory against what was imported, each difference by name.

What was imported is written once more to a temporary directory, by the code that imports, and the
two directories are compared: so nothing has to know twice what a tar makes of names, whiteouts,
owners and attributes. Where the layer has a recipe, its tar tells all but the content, for which
the recipe has sums: then the temporary directory has no content either, and takes hardly more than
its inodes. Where it has none, what came is kept, and is unpacked. That the tar has the layer's
digest in the end says that nothing was overlooked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from unionfs.digest import Digest
from unionfs.errors import CorruptError
from unionfs.image.shipping import damage, kept_blob, opened, write_layer
from unionfs.store.layers import MissingLayerError
from unionfs.store.records import BlobRecord
from unionfs.store.store import Store
from unionfs.tarball.apply import Applied, apply_layer
from unionfs.tarball.compare import differences
from unionfs.tarball.compression import open_decompressed
from unionfs.tarball.limits import UNLIMITED
from unionfs.tarball.names import components
from unionfs.tarball.recipe import RecipeError, opened_tar, require_whole

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Fault(NamedTuple):
    """A difference in a layer: at *path* (without a leading slash), None: of the layer itself."""

    path: bytes | None
    says: str


def verify_layer(store: Store, diff_id: Digest, told: Callable[[int], None]) -> Iterator[Fault]:
    """Yield how a stored layer differs from what was imported; *told* gets counts of tar bytes.

    The caller has a lease on it. Raises StoreFullError, StoreFailedError, NotFoundError.
    """
    try:
        fd = os.open(store.layers.readable_path(diff_id), _DIR)
    except MissingLayerError as error:
        yield Fault(None, str(error))
        return
    try:
        blob = kept_blob(store, diff_id, None)
        if blob is not None:
            wrong = damage(store, blob)
            if wrong is not None:
                yield Fault(None, wrong)
                blob = None
        with store.failures_named(f"verifying layer {diff_id}"):
            yield from _Verification(store, diff_id, fd, told).run(blob)
    finally:
        os.close(fd)


class _Verification:
    """One layer, whose directory is open as *found*."""

    def __init__(
        self, store: Store, diff_id: Digest, found: int, told: Callable[[int], None]
    ) -> None:
        self._store = store
        self._diff_id = diff_id
        self._found = found
        self._told = told

    def run(self, blob: BlobRecord | None) -> Iterator[Fault]:
        """Yield the differences, by the recipe or by *blob*, which is whole."""
        recipe = self._store.layers.recipe_path(self._diff_id)
        if recipe is not None:
            try:
                with open(recipe, "rb") as file:
                    summed = require_whole(file)
                if summed or blob is None:
                    yield from self._by_recipe(recipe)
                    return
            except RecipeError as error:
                yield Fault(None, str(error))
        if blob is not None:
            yield from self._by_blob(blob)
        elif recipe is None:
            yield from self._by_digest()

    def _by_recipe(self, recipe: str) -> Iterator[Fault]:
        changed: list[bytes] = []
        with open(recipe, "rb") as file, self._made() as wanted:
            tar = opened_tar(file, self._found, changed.append)
            sparse: set[bytes] = set()
            applied = self._apply(tar, wanted, sparse)
            names = {b"/".join(components(name, UNLIMITED)) for name in changed}
            seen = False
            for path, says in differences(wanted, self._found, with_content=sparse):
                seen = True
                yield Fault(path, says)
            for name in sorted(names):
                yield Fault(name, "has other content")
        if not (seen or names):
            yield from self._overlooked(applied.diff_id)

    def _by_blob(self, blob: BlobRecord) -> Iterator[Fault]:
        with self._made() as wanted, opened(self._store, blob) as section:
            tar = open_decompressed(cast("BinaryIO", section))
            applied = self._apply(tar, wanted)
            for path, says in differences(wanted, self._found):
                yield Fault(path, says)
        if applied.diff_id != self._diff_id:
            yield Fault(None, f"its kept blob has the tar {applied.diff_id}")

    def _by_digest(self) -> Iterator[Fault]:
        """Where neither recipe nor blob is, the layer was made from the tar that it makes."""
        try:
            with open(os.devnull, "wb") as nowhere:
                write_layer(self._store, self._diff_id, "none", nowhere, self._told)
        except CorruptError as error:
            yield Fault(None, str(error))

    def _overlooked(self, digest: Digest) -> Iterator[Fault]:
        if digest != self._diff_id:
            yield Fault(
                None, f"the content of some file is another: its tar has the digest {digest}"
            )

    def _apply(self, tar: BinaryIO, wanted: int, sparse: set[bytes] | None = None) -> Applied:
        return apply_layer(
            tar,
            wanted,
            flavour=self._store.flavour,
            limits=UNLIMITED,
            progress=self._told,
            sparse_only=sparse,
        )

    @contextmanager
    def _made(self) -> Iterator[int]:
        """A new directory as a layer's tree begins, open."""
        with self._store.scratch() as scratch:
            tree = Path(scratch, "tree")
            tree.mkdir()
            tree.chmod(0o755)
            fd = os.open(tree, _DIR)
            try:
                yield fd
            finally:
                os.close(fd)

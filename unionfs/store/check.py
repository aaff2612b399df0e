"""The store's database against its directories: what is missing, half-made, too open, damaged.

What nothing refers to is garbage, which is looked for where it is collected (``store.garbage``).
Beside processes that use the store: whatever one of them is just making or removing is locked, and
left to it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from unionfs.digest import BadDigestError, Digest
from unionfs.errors import CorruptError
from unionfs.store.blobs import Blobs
from unionfs.store.containers import Containers
from unionfs.store.garbage import CONTAINER, FIXUP, LAYER, Garbage, Sweep, Trash
from unionfs.store.images import Images
from unionfs.store.indexes import INDEX
from unionfs.store.layers import Layers, MissingLayerError
from unionfs.store.layout import RECIPE, TREE
from unionfs.store.parts import Parts
from unionfs.store.records import BlobRecord, ContainerRecord, ImageRecord, LayerRecord, chain_id
from unionfs.store.scratch import LOCK, SCRATCH
from unionfs.tarball.recipe import RecipeError, require_whole

_OTHERS = 0o077  # permission bits that nothing of a store's own directories has


@dataclass(frozen=True, slots=True)
class Problem:
    """Something is wrong with *what* (a layer, an image, a container, …).

    ``repair`` puts it right, and ``remedy`` says how; None where nobody can. *harmless*: it is no
    fault, and goes by itself.
    """

    what: str
    says: str
    remedy: str = ""
    repair: Callable[[], None] | None = None
    harmless: bool = False


class Checker:
    """Looks at one store; a problem's repair is to be called before the next one is asked for."""

    def __init__(
        self,
        parts: Parts,
        blobs: Blobs,
        layers: Layers,
        images: Images,
        containers: Containers,
        garbage: Garbage,
        restore: Callable[[Digest], None],
    ) -> None:
        """*restore* makes the directory of a layer again, of what is left of it."""
        self._restore = restore
        self._parts = parts
        self._blobs = blobs
        self._layers = layers
        self._images = images
        self._containers = containers
        self._garbage = garbage

    def problems(self) -> Iterator[Problem]:
        """Yield everything that is wrong. Raises BadDatabaseError, DatabaseUnavailableError."""
        yield from self._directories()
        yield from self._database()
        for layer in self._layers.list():
            yield from self._layer(layer)
        for blob in self._blobs.list():
            yield from self._blob(blob)
        for image in self._images.list():
            yield from self._image(image)
        for container in self._containers.list():
            yield from self._container(container)
        yield from self._left_over()

    def _directories(self) -> Iterator[Problem]:
        layout = self._parts.layout
        for path in layout.directories():
            if not os.path.isdir(path):
                yield Problem(f"directory {path}", "is missing", "made it", layout.make)
            else:
                yield from _too_open(f"directory {path}", path)
        yield from _too_open(f"database {layout.database}", layout.database, 0o600)

    def _database(self) -> Iterator[Problem]:
        what = f"database {self._parts.layout.database}"
        with self._parts.database.read() as rows:
            found = [row[0] for row in rows.execute("PRAGMA integrity_check")]
            orphans = [row[0] for row in rows.execute("PRAGMA foreign_key_check")]
        for says in found:
            if says != "ok":
                yield Problem(what, f"is damaged: {says}")
        for table in sorted(set(orphans)):
            yield Problem(what, f"has rows in {table} that refer to nothing")

    def _layer(self, layer: LayerRecord) -> Iterator[Problem]:
        row = "layers", "diff_id", str(layer.diff_id)
        with self._at_rest(layer.diff_id.hex, *row) as resting:
            found = self._faults(layer) if resting else []
        yield from found  # without the lock, which a restoring takes

    def _faults(self, layer: LayerRecord) -> list[Problem]:
        what = f"layer {layer.diff_id}"
        path = self._parts.layout.layer(layer.diff_id)
        again = "made it again", partial(self._restore, layer.diff_id)
        if not os.path.isdir(os.path.join(path, TREE)):
            return [Problem(what, "its directory is gone", *again)]
        found = list(_too_open(what, path))
        try:
            sidecar = self._layers.sidecar(layer.diff_id)
            if sidecar.diff_id != layer.diff_id:
                says = f"its directory says that it is {sidecar.diff_id}"
                found.append(Problem(what, says, *again))
        except MissingLayerError as error:
            found.append(Problem(what, f"is half-made: {error}", *again))
        return [*found, *self._recipe(what, layer, os.path.join(path, RECIPE))]

    def _recipe(self, what: str, layer: LayerRecord, path: str) -> Iterator[Problem]:
        try:
            with open(path, "rb") as file:
                require_whole(file)
        except FileNotFoundError:
            pass  # some have none, and then a blob; or come out of the directory as they went in
        except RecipeError as error:
            if self._blobs.of_layer(layer.diff_id):
                remedy = "removed the recipe: the kept blob has the tar"
                yield Problem(what, f"its tar cannot be made: {error}", remedy, partial(_rm, path))
            else:
                yield Problem(what, f"its tar cannot be made, so it cannot be exported: {error}")

    def _blob(self, blob: BlobRecord) -> Iterator[Problem]:
        what = f"blob {blob.digest}"
        try:
            size = os.stat(self._blobs.path(blob.digest)).st_size
        except FileNotFoundError:
            size = -1
        if size == blob.size or blob not in self._blobs.of_layer(blob.diff_id):
            return  # as it should be; or dropped meanwhile
        says = "is gone" if size < 0 else f"has {size} bytes instead of {blob.size}"
        whose = f"of layer {blob.diff_id}"
        if self._layers.recipe_path(blob.diff_id) is not None:
            remedy = "forgot it: exports compress the layer anew"
            yield Problem(what, f"{whose} {says}", remedy, partial(self._forget, blob))
        else:
            yield Problem(what, f"{whose} {says}, and nothing else has the layer's tar")

    def _forget(self, blob: BlobRecord) -> None:
        self._blobs.drop(blob)

    def _image(self, image: ImageRecord) -> Iterator[Problem]:
        what = f"image {image.names[0] if image.names else image.id}"
        if Digest.of(image.config_blob) != image.id:
            yield Problem(what, f"its config is not what its ID {image.id} says")
        elif _layers_of(image) != image.diff_ids:
            yield Problem(what, "its layers are not those of its config")
        if image.chain_id != chain_id(image.diff_ids):
            yield Problem(what, "its chain is not that of its layers")
        elif self._images.lacks_fixup(image):
            again = partial(self._images.make_fixup, image)
            yield Problem(what, "the metadata of some directories is gone", "made it again", again)
        manifest = image.manifest_blob
        if manifest is not None and Digest.of(manifest) != image.manifest_digest:
            yield Problem(what, "its manifest is not what its digest says")

    def _container(self, container: ContainerRecord) -> Iterator[Problem]:
        what = f"container {container.name}"
        path = self._containers.path(container.id)
        with self._at_rest(container.id, "containers", "id", container.id) as resting:
            if not resting:
                return
            if not os.path.isdir(path):
                forget = partial(self._containers.forget, container.id)
                yield Problem(what, "its directory is gone", "removed the container", forget)
                return
            yield from _too_open(what, path)
            if os.path.isdir(os.path.join(path, "next")):
                return  # a rebase was cut short; whoever next looks the container up finishes it
            if not os.path.isdir(os.path.join(path, "upper")):
                yield Problem(what, "its changes are gone: remove it")
            work = os.path.join(path, "work")
            if not os.path.isdir(work):
                yield Problem(what, "has no work directory", "made it", partial(_mkdir, work))

    def _left_over(self) -> Iterator[Problem]:
        """Yield what garbage collection would take: what died half-way is no fault of the store."""
        sweep = Sweep(dry=True)
        self._garbage.sweep(sweep)
        for one in sweep.found:
            yield Problem(
                f"{one.kind} {one.name}",
                "nothing refers to it",
                "removed it",
                partial(self._garbage.sweep, Sweep()),
                harmless=self._died_half_way(one),
            )

    def _died_half_way(self, one: Trash) -> bool:
        """Return whether a command that was killed leaves garbage like this, all of it whole.

        What else has no row may have lost it.
        """
        if one.kind == LAYER:
            try:
                return str(self._layers.sidecar(Digest.parse(one.name)).diff_id) == one.name
            except MissingLayerError:
                return False
        if one.kind == CONTAINER:
            return _is_empty(os.path.join(self._containers.path(one.name), "upper"))
        return one.kind in (SCRATCH, LOCK, FIXUP, INDEX)

    @contextmanager
    def _at_rest(self, lock: str, table: str, column: str, value: str) -> Iterator[bool]:
        """Hold *lock*; yield whether that was possible and the row is still there."""
        try:
            with self._parts.scratch.locked(lock, wait=False):
                with self._parts.database.read() as rows:
                    found = rows.execute(f"SELECT 1 FROM {table} WHERE {column} = ?", (value,))
                    there = found.fetchone() is not None
                yield there
        except BlockingIOError:
            yield False  # it is being made or removed


def _too_open(what: str, path: str, mode: int = 0o700) -> Iterator[Problem]:
    """Yield the problem that others than the owner may use *path*, if so."""
    found = stat.S_IMODE(os.stat(path).st_mode)
    if found & _OTHERS:
        close = partial(os.chmod, path, mode)
        yield Problem(what, f"is open to others (mode {found:04o})", f"made it {mode:04o}", close)


def _layers_of(image: ImageRecord) -> Sequence[Digest]:
    """Return the diffIDs in the config of *image*, none where it is damaged."""
    try:
        found = json.loads(image.config_blob)["rootfs"]["diff_ids"]
        return tuple(Digest.parse(one) for one in found)
    except (ValueError, KeyError, TypeError, BadDigestError, CorruptError):
        return ()


def _is_empty(path: str) -> bool:
    """Return whether the directory *path* is there and has nothing in it."""
    try:
        return not os.listdir(path)
    except OSError:
        return False


def _rm(path: str) -> None:
    os.unlink(path)


def _mkdir(path: str) -> None:
    os.mkdir(path, 0o700)

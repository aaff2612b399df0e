"""A stack of layers with the names that people call them by, opened for looking."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from unionfs.ondisk.flavour import Flavour
from unionfs.union.layer import FdPool, Layer
from unionfs.union.reasons import Reasons
from unionfs.union.stack import find_overrides, flavour_of, open_layers, tree_of
from unionfs.union.tree import Tree


@dataclass(frozen=True, slots=True)
class LayerName:
    """One layer of a stack, for people.

    ``number`` counts an image's layers, or the lower directories of a mount, from the bottom and
    from 1; None for the upper and for what is not a layer of the image (``label`` says which).
    ``digest`` is the diffID and ``command`` the image history's, where there is one.
    """

    label: str
    path: bytes
    number: int | None = None
    digest: str | None = None
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What to look at: *subject* in a word, *layers* topmost first, and how a driver opens them.

    ``upper``: the first layer is one that takes changes; ``work`` is its work directory.
    ``read_only``: a mount of it takes none now. ``flavour`` None: as a mount by this process.
    ``target`` is the mount point by which it was named.
    """

    subject: str
    layers: tuple[LayerName, ...]
    upper: bool = False
    work: bytes | None = None
    read_only: bool = True
    flavour: Flavour | None = None
    aufs: bool = False
    target: bytes | None = None


UPPER = "upper"
FIXUP = "image metadata"  # directories that no layer of the image describes (store.fixups)


def numbered(paths: Sequence[bytes], upper: bytes | None = None) -> tuple[LayerName, ...]:
    """Return names for directories that are no image's, *paths* topmost first."""
    count = len(paths)
    lowers = [
        LayerName(f"layer {count - place}", path, count - place) for place, path in enumerate(paths)
    ]
    return ((LayerName(UPPER, upper),) if upper is not None else ()) + tuple(lowers)


def called(
    paths: Sequence[bytes], names: Sequence[tuple[int, str]], upper: bytes | None = None
) -> tuple[LayerName, ...]:
    """Return names for *paths*, topmost first, whose numbers and diffIDs are *names*.

    Number 0 is for what is no layer of the image; without *names* they are plain directories.
    """
    if not names:
        return numbered(paths, upper)
    lowers = [
        LayerName(f"layer {number}" if number else FIXUP, path, number or None, digest or None)
        for path, (number, digest) in zip(paths, names, strict=True)
    ]
    return ((LayerName(UPPER, upper),) if upper is not None else ()) + tuple(lowers)


class Stack:
    """The layers of *source*: the driver's ``tree`` over them, ``reasons`` to look into it."""

    def __init__(self, source: Source) -> None:
        """Open the layers. Raises BadLayerError naming one that is missing, and OSError."""
        self.source = source
        layers: list[Layer] = []
        pool = FdPool(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        flavour = source.flavour or flavour_of(None)
        upper = source.layers[0].path if source.upper else None
        lowers = [name.path for name in source.layers[1 if source.upper else 0 :]]
        try:
            open_layers(layers, upper, lowers, flavour, pool, aufs=source.aufs)
            if source.aufs or flavour is Flavour.USER:
                find_overrides(layers)
            self.tree = tree_of(layers, pool)
            self.reasons = Reasons(self.tree)
        except BaseException:
            for layer in layers:
                layer.close()
            raise

    @classmethod
    def over(cls, tree: Tree, source: Source) -> Stack:
        """Return the stack of a *tree* that is open already, and stays its owner's to close."""
        stack = cls.__new__(cls)
        stack.source, stack.tree, stack.reasons = source, tree, Reasons(tree)
        return stack

    def name_of(self, layer: Layer) -> LayerName:
        """Return what people call *layer* of this tree."""
        return self.source.layers[layer.number if self.source.upper else layer.number - 1]

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        self.tree.close()

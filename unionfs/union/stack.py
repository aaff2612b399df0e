"""Opening a stack: which layers, in which spelling, and which kind of tree they make.

The users are ``fuse.session``, which serves the tree, and ``inspect``, which explains it: both see
the same one because it is opened here.
"""

from __future__ import annotations

from collections.abc import Sequence

from unionfs.ondisk import override
from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls.capability import (
    CAP_SYS_ADMIN,
    has_capability,
    in_initial_user_namespace,
)
from unionfs.syscalls.idmap import own_ids
from unionfs.union.layer import FdPool, Layer
from unionfs.union.override import OverrideTree
from unionfs.union.tree import Tree


def flavour_of(userxattr: bool | None) -> Flavour:
    """Return the attributes to use: ``trusted.*`` needs CAP_SYS_ADMIN in the first namespace."""
    if userxattr is None:
        userxattr = not (in_initial_user_namespace() and has_capability(CAP_SYS_ADMIN))
    return Flavour.USER if userxattr else Flavour.TRUSTED


def open_layers(
    layers: list[Layer],
    upper: bytes | None,
    lowers: Sequence[bytes],
    flavour: Flavour,
    pool: FdPool,
    *,
    aufs: bool,
) -> None:
    """Open *upper* (if any) and *lowers* into *layers*, topmost first.

    Without *aufs* they are a store's: plain, and held. Raises BadLayerError; those that were opened
    are in *layers*, to be closed.
    """
    if upper is not None:
        layers.append(Layer(upper, 0, flavour, pool, aufs=aufs))
    for number, path in enumerate(lowers, start=1):
        # Layers of the store are plain: the importer lets no mark of a driver's through.
        lower = Layer(path, number, flavour, pool, aufs=aufs, plain=not aufs)
        layers.append(lower)
        if lower.plain:
            lower.hold()


def find_overrides(layers: Sequence[Layer]) -> None:
    """Note which layers keep owners in an attribute: those whose root has it. Raises OSError."""
    for layer in layers:
        spelling = override.of_layer(layer.root.fd())
        if spelling is not None:
            layer.keep_owners_as(spelling)


def tree_of(layers: Sequence[Layer], pool: FdPool) -> Tree:
    """Return the union of *layers*, topmost first. Raises OSError."""
    if any(layer.override is not None for layer in layers):
        return OverrideTree(layers, pool, own_ids())
    return Tree(layers, pool)

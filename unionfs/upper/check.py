"""Whether an upper and its work directory say what the layers below can answer.

Reads only, but for the repairs that its findings carry. The caller has seen to it that nothing
else changes the upper (``workdir``'s flock, which a daemon needs). Looks only where the upper has a
directory of its own, so the time grows with the changes and not with the image.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.marks import UnknownMarkError
from unionfs.ondisk.origin import Origin, decode, filesystem_uuid
from unionfs.ondisk.whiteout import AUFS_PREFIX
from unionfs.syscalls import xattr
from unionfs.syscalls.at import name_path
from unionfs.syscalls.handle import open_handle
from unionfs.union.layer import FdPool, Layer, Part
from unionfs.union.metacopy import open_readable
from unionfs.union.node import Node
from unionfs.union.stack import find_overrides, open_layers, tree_of
from unionfs.union.tree import Tree
from unionfs.upper import whiteouts
from unionfs.upper.work import clear_away, discard

_DESCRIPTORS = 512
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = frozenset((errno.ESTALE, errno.ENOENT))
_INDEX, _WORK, _INCOMPAT = b"/index", b"/work", b"incompat"


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something about *path* (in the upper, or in ``work``) that is not as it should be.

    ``repair`` puts it right and is described by ``remedy``; None where nobody can know how.
    *harmless*: it is no fault, but whoever looks may want to know.
    """

    path: bytes
    says: str
    remedy: str = ""
    repair: Callable[[], None] | None = None
    harmless: bool = False


def check_upper(
    lowers: Sequence[bytes], upper: bytes, work: bytes, flavour: Flavour
) -> Iterator[Flaw]:
    """Yield what is wrong in *upper* and *work* over *lowers* (topmost first).

    A repair is to be called, if at all, before the next flaw is asked for. Raises BadLayerError
    and OSError.
    """
    pool = FdPool(_DESCRIPTORS)
    layers: list[Layer] = []
    try:
        open_layers(layers, upper, lowers, flavour, pool, aufs=False)
        find_overrides(layers)
        origins = _Origins(layers[1:], flavour)
        yield from _walk(layers, pool, origins, flavour)
        yield from _check_index(work, origins)
        yield from _check_work(work)
    finally:
        pool.close()
        for layer in layers:
            layer.close()


def _walk(layers: list[Layer], pool: FdPool, origins: _Origins, flavour: Flavour) -> Iterator[Flaw]:
    try:
        tree = tree_of(layers, pool)
    except UnknownMarkError as error:
        yield Flaw(b"/", str(error))
    else:
        yield from _Walk(tree, origins, flavour).run()


class _Origins:
    """Tells of origin marks whether the file that they name is there."""

    def __init__(self, lowers: Sequence[Layer], flavour: Flavour) -> None:
        self.flavour = flavour
        self._places: dict[bytes | None, int] = {}
        devices = {layer.device: layer for layer in lowers}
        for layer in devices.values():
            self._places[filesystem_uuid(layer.root.fd())] = layer.root.fd()
        self._tells = len(self._places) == len(devices)  # else a handle has two places to be in

    def is_gone(self, origin: Origin) -> bool:
        """Return whether the file is surely gone; without CAP_DAC_READ_SEARCH nobody knows."""
        if not self._tells:
            return False
        place = self._places.get(origin.uuid)
        if place is None:
            return True
        try:
            os.close(open_handle(place, origin.handle))
        except OSError as error:
            return error.errno in _GONE
        return False


class _Walk:
    """One walk over the directories that the upper has.

    ``_topmost`` knows, of each lower directory that an upper one continues, where that is.
    """

    def __init__(self, tree: Tree, origins: _Origins, flavour: Flavour) -> None:
        self._tree = tree
        self._origins = origins
        self._flavour = flavour
        self._topmost: dict[tuple[int, int], bytes] = {}

    def run(self) -> Iterator[Flaw]:
        """Yield the flaws, directory by directory."""
        pending = [self._tree.root]
        while pending:
            node = pending.pop()
            try:
                part = self._tree.ready(node)[0]
            except UnknownMarkError as error:
                yield Flaw(node.path(), str(error))  # nor can what is in it be looked at
                continue
            yield from self._directory(node, part)
            for child in self._tree.load(node).values():
                if child.is_dir:
                    if child.candidates and child.candidates[0].layer.number == 0:
                        pending.append(child)
                elif child.source is None:
                    yield from self._file(child, part)
            node.children = None

    def _directory(self, node: Node, part: Part) -> Iterator[Flaw]:
        path = node.path()
        yield from self._attributes(path, part.fd(), node.parent)
        if part.redirect is not None:
            yield from self._redirect(node, part)
        lower = node.parts[1] if len(node.parts) > 1 else None
        if lower is None:
            return
        st = os.stat(lower.fd())
        other = self._topmost.setdefault((st.st_dev, st.st_ino), path)
        if other != path:
            yield Flaw(path, f"continues the same lower directory as {_shown(other)}")

    def _redirect(self, node: Node, part: Part) -> Iterator[Flaw]:
        path, redirect = node.path(), part.redirect or b""
        if len(node.parts) == 1:
            yield Flaw(
                path,
                f"its redirect leads nowhere: {_shown(redirect)}",
                "made opaque, as it shows",
                partial(self._cut_off, part),
            )
            return
        if self._flavour is Flavour.USER:
            yield Flaw(
                path,
                f"was renamed ({_shown(redirect)}): the kernel's overlayfs refuses to show it with"
                " user.overlay.* attributes; unionfs mounts do show it",
                harmless=True,
            )
        old = self._found(redirect) if redirect.startswith(b"/") else None
        if old is not None and old.parts[0].layer.number != 0 and _same(old.parts[0], node):
            yield Flaw(path, f"is also shown where it was before: {_shown(redirect)}")

    def _found(self, path: bytes) -> Node | None:
        """Return the directory that the mount shows at *path*, if one."""
        node: Node | None = self._tree.root
        for name in path[1:].split(b"/"):
            node = self._tree.lookup(node, name) if node is not None else None
            if node is None or not node.is_dir:
                return None
        assert node is not None
        self._tree.ready(node)
        return node

    def _cut_off(self, part: Part) -> None:
        """Let nothing below show through *part*, and forget where it led."""
        whiteouts.make_opaque(part)
        xattr.remove(part.fd(), self._flavour.redirect)

    def _file(self, node: Node, above: Part) -> Iterator[Flaw]:
        path = node.path()
        if node.name.startswith(AUFS_PREFIX):
            yield Flaw(path, "has a name that reads as a whiteout in a layer; commit refuses it")
        target = name_path(above.fd(), node.name)
        yield from self._attributes(path, target, node.parent)
        if node.kind == stat.S_IFREG and self._flavour.metacopy in xattr.names(target):
            try:
                os.close(open_readable(self._tree, node))
            except (OSError, UnknownMarkError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                yield Flaw(path, f"its data, which is elsewhere (metacopy), is not found: {reason}")

    def _attributes(self, path: bytes, target: int | bytes, parent: Node | None) -> Iterator[Flaw]:
        """Yield what is wrong with the marks on *target*."""
        names = [name for name in xattr.names(target) if name.startswith(self._flavour.prefix)]
        for name in names:
            if self._flavour.is_unknown(name):
                yield Flaw(path, f"has a mark of overlayfs that nobody knows: {_shown(name)}")
        if self._flavour.origin not in names:
            return
        value = xattr.get(target, self._flavour.origin)
        origin = decode(value)
        forget = partial(xattr.remove, target, self._flavour.origin)
        if origin is None:
            if value:
                yield Flaw(path, "its origin mark is not one", "removed the mark", forget)
            return
        if self._origins.is_gone(origin):
            yield Flaw(
                path,
                "what it was copied from is gone: it has another inode number now",
                "removed the mark",
                forget,
            )
        elif parent is not None and not parent.parts[0].impure:
            yield self._not_impure(parent)

    def _not_impure(self, parent: Node) -> Flaw:
        part = parent.parts[0]

        def mark() -> None:
            xattr.set_(part.fd(), self._flavour.impure, b"y")

        part.impure = True  # once is enough
        says = "holds copies and is not marked so: their inode numbers change with a remount"
        # The kernel takes it off where it knows of no copy (nfs_export, without an index entry).
        return Flaw(parent.path(), says, "marked it", mark, harmless=True)


def _same(part: Part, node: Node) -> bool:
    """Return whether *part* is the topmost lower directory of *node*."""
    return os.path.samestat(os.stat(part.fd()), os.stat(node.parts[1].fd()))


def _check_index(work: bytes, origins: _Origins) -> Iterator[Flaw]:
    """Yield the entries of the index that say nothing, or of a file that is gone.

    The kernel refuses the first, and removes the second when it mounts (fs/overlayfs/namei.c,
    ovl_verify_index()).
    """
    try:
        fd = os.open(work + _INDEX, _DIR)
    except FileNotFoundError:
        return
    try:
        for name in sorted(os.fsencode(one) for one in os.listdir(fd)):
            path = _INDEX[1:] + b"/" + name
            origin = _origin_of(name)
            remove = partial(clear_away, fd, name)
            if name.startswith(b"#"):
                yield Flaw(path, "left by a killed mount", "removed", remove, harmless=True)
            elif origin is None:
                yield Flaw(
                    path, "is no entry of an index: the kernel refuses it", "removed", remove
                )
            elif origins.is_gone(origin):
                yield Flaw(path, "is a copy of a file that is gone", "removed the entry", remove)
    finally:
        os.close(fd)


def _origin_of(name: bytes) -> Origin | None:
    try:
        return decode(bytes.fromhex(name.decode("ascii")))
    except ValueError:
        return None


def _check_work(work: bytes) -> Iterator[Flaw]:
    """Yield what a daemon that was killed left in the work directory."""
    try:
        fd = os.open(work + _WORK, _DIR)
    except FileNotFoundError:
        return
    try:
        for name in sorted(os.fsencode(one) for one in os.listdir(fd)):
            path = _WORK[1:] + b"/" + name
            if name == _INCOMPAT:
                says = "it was mounted volatile and not unmounted cleanly: it may have lost data"
                yield Flaw(path, f"{says}; delete this if the data is good")
            else:
                remove = partial(discard, fd, name)
                yield Flaw(path, "left by a killed mount", "removed", remove, harmless=True)
    finally:
        os.close(fd)


def _shown(name: bytes) -> str:
    return os.fsdecode(name)

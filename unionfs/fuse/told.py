"""What a mount tells of its layers in attributes that are on no disk: ``user.unionfs.layer`` etc.

For any tool that reads attributes, of regular files and directories: of others the kernel does not
ask a filesystem for ``user.*``. They are not listed, so nothing copies them. A name that is told is
ours alone: one that a layer really has is not shown, and nobody can set it.

| attribute ``user.unionfs.`` | says |
|---|---|
| ``layer`` | the number of the layer that shows, from the bottom, or ``upper`` |
| ``digest`` | its diffID, where it is an image's |
| ``why`` | in a sentence, which layers have it and what hides what |
| ``origin`` | the layer that it is from, or was copied up from, and its path there |
| ``path``, ``allpaths`` | where it is on disk; where all copies are, hidden ones too, NUL between |
| ``stack`` | what is mounted, as JSON, for ``unionfs explain`` |
| ``stats`` | what it did so far, and how, as JSON, for ``unionfs stats`` (``measured``) |
| ``trace.READER.N`` | requests since this reader's answer N-1, for ``unionfs trace`` (``tracer``) |
| ``trace.READER.Nm`` | the same, in the file that answer 0 tells of (``tracereader``) |

The last five rows are for the mount's owner and for root, outside the container only. READER is 16
hexadecimal digits of his choice; N is 0 at first and ``end`` at last; of the root only. To answer,
each layer is asked for each name on the path (no directory is read for that, however large): when
somebody asks, and at no cost to others.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyfuse3 import RequestContext

from unionfs.ondisk.flavour import OWN_PREFIX, Flavour
from unionfs.options import MountConfig
from unionfs.union.node import Node
from unionfs.union.tree import Tree

if TYPE_CHECKING:
    from unionfs.fuse.tracer import Tracer
    from unionfs.inspect.explain import Explanation
    from unionfs.inspect.stack import LayerName, Stack

_OPEN = frozenset(OWN_PREFIX + name for name in (b"layer", b"digest", b"why", b"origin"))
_GUARDED = frozenset(OWN_PREFIX + name for name in (b"path", b"allpaths", b"stack", b"stats"))
NAMES = _OPEN | _GUARDED
TRACE = OWN_PREFIX + b"trace."
_TRACING = re.compile(re.escape(TRACE) + rb"([0-9a-f]{16})\.(?:([0-9]{1,18})(m?)|end)")


def is_told(name: bytes) -> bool:
    """Return whether the attribute *name* is one of those above."""
    return name in NAMES or name.startswith(TRACE)


class Told:
    """The answers of one mount of *config*; all in the main thread, without an await."""

    def __init__(
        self,
        tree: Tree,
        config: MountConfig,
        flavour: Flavour,
        stats: Callable[[], object],
        tracer: Tracer,
    ) -> None:
        self._tree = tree
        self._config = config
        self._flavour = flavour
        self._stats = stats
        self._tracer = tracer
        self._owner = os.geteuid()

    def value(self, node: Node, name: bytes, ctx: RequestContext) -> bytes:
        """Return the value of the attribute *name* (``is_told``) of *node*.

        Raises OSError: ENODATA where there is nothing to tell, EACCES for whom it is not meant.
        """
        traces = name.startswith(TRACE)
        if (traces or name in _GUARDED) and not self._is_outside(ctx):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if traces:
            return self._trace(node, name, ctx.pid)
        if name == OWN_PREFIX + b"stack":
            return _as_json(self._document())
        if name == OWN_PREFIX + b"stats":
            return _as_json(self._stats())
        if node.dead:
            raise _nothing()
        value = self._of_file(node, name.removeprefix(OWN_PREFIX))
        if not value:
            raise _nothing()
        return value

    def _trace(self, node: Node, name: bytes, pid: int) -> bytes:
        found = _TRACING.fullmatch(name)
        if found is None or node.parent is not None:
            raise _nothing()
        if found[2] is not None:
            return self._tracer.answer(found[1], int(found[2]), pid, in_memory=bool(found[3]))
        self._tracer.end(found[1])
        return b""

    def _is_outside(self, ctx: RequestContext) -> bool:
        """Return whether the caller is the mount's owner or root, and in no container.

        That is who sees the same mounts as this process or as the machine's first, from the same
        root directory. Nothing is looked up on this mount for that, which would wait for itself.
        """
        if ctx.uid not in (0, self._owner) or ctx.pid == 0:
            return False
        try:
            theirs = os.readlink(f"/proc/{ctx.pid}/ns/mnt")
            ours = [os.readlink(f"/proc/{pid}/ns/mnt") for pid in ("self", "1") if _visible(pid)]
            return theirs in ours and os.readlink(f"/proc/{ctx.pid}/root") == "/"
        except OSError:
            return False

    def _document(self) -> dict[str, object]:
        config = self._config
        return {
            "lowers": [os.fsdecode(path) for path in config.lowerdirs],
            "upper": None if config.upperdir is None else os.fsdecode(config.upperdir),
            "work": None if config.workdir is None else os.fsdecode(config.workdir),
            "names": [list(name) for name in config.lower_names],
            "read_only": config.read_only or config.upperdir is None,
            "flavour": self._flavour.name,
            "aufs": config.aufs,
        }

    def _of_file(self, node: Node, what: bytes) -> bytes | None:
        from unionfs.inspect import words
        from unionfs.inspect.explain import Outcome, explain_in
        from unionfs.union.reasons import ChangedError

        layer = self._layer_of(node)
        if what == b"layer":
            return (str(layer.number) if layer.number else layer.label).encode()
        if what == b"digest":
            return (layer.digest or "").encode()
        try:
            found = explain_in(self._stack(), node.path(), compare=False)
        except ChangedError:  # the walk does not know the index
            return self._of_indexed(node, what)
        if found.outcome is not Outcome.FOUND:
            raise _nothing()
        if what == b"why":
            return words.answer(found).encode()
        if what == b"origin":
            return self._origin(node, found)
        if what == b"path":
            return found.shown.path if found.shown is not None else None
        return b"\0".join(copy.path for copy in found.copies)

    def _layer_of(self, node: Node) -> LayerName:
        from unionfs.union.metacopy import layer_of

        layer = self._tree.ready(node)[0].layer if node.is_dir else layer_of(self._tree, node)
        return self._stack().name_of(layer)

    def _stack(self) -> Stack:
        from unionfs.inspect.stack import Source, Stack, called

        config = self._config
        source = Source(
            "this mount",
            called(config.lowerdirs, config.lower_names, config.upperdir),
            upper=config.upperdir is not None,
            work=config.workdir,
            read_only=config.read_only or config.upperdir is None,
            flavour=self._flavour,
            aufs=config.aufs,
        )
        return Stack.over(self._tree, source)

    def _of_indexed(self, node: Node, what: bytes) -> bytes | None:
        """Answer for a file that was copied up under another of its names."""
        if what == b"why":
            return b"from upper: copied up under another of its names"
        work = self._config.workdir
        if what == b"origin" or node.hidden is None or work is None:
            return None
        return work + b"/index/" + node.hidden[1]

    def _origin(self, node: Node, found: Explanation) -> bytes | None:
        """Return layer and path of the file that *node* was born as, None if it was born here."""
        shown = found.shown
        if shown is None:
            return None
        own = os.stat(shown.path, follow_symlinks=False)
        born = node.identity or (own.st_dev, own.st_ino)
        for copy in found.copies:
            st = os.stat(copy.path, follow_symlinks=False)
            if (st.st_dev, st.st_ino) == born and copy.layer.label != "upper":
                inside = copy.path[len(copy.layer.path.rstrip(b"/")) :] or b"/"
                return copy.layer.label.encode() + b" " + inside
        if born == (own.st_dev, own.st_ino):
            return None
        return b"a layer's file of another name, inode %d" % born[1]


def _visible(pid: str) -> bool:
    return pid == "self" or os.access(f"/proc/{pid}/ns/mnt", os.R_OK)


def _as_json(document: object) -> bytes:
    import json  # here: a mount is not to pay for it before somebody asks

    return json.dumps(document).encode("ascii")


def _nothing() -> OSError:
    return OSError(errno.ENODATA, os.strerror(errno.ENODATA))

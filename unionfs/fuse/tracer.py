"""Who traces a mount, and what is kept for each until he asks.

For ``unionfs trace``, through attributes of the root (``told``). While somebody traces, each
request becomes a record: by the extension (``_trace.c``), or without it by ``noted``. Here records
are made pieces that say what nodes are called (``tracepieces``): before a node is moved, copied up
or forgotten, so that each is told as it was.

A reader (``tracereader``) that does not ask loses what is too much to keep, with a count, and is
dropped after some seconds; with the last one it all ends. Nobody waits for a reader. What is left
when the mount ends is left to each in a file.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from unionfs.fuse import loop, native
from unionfs.fuse.guard import failure
from unionfs.fuse.inodes import Inodes
from unionfs.fuse.tracepieces import Made, Pieces
from unionfs.fuse.tracereader import Reader, add_lost, close
from unionfs.inspect.records import NODE
from unionfs.options import MountConfig
from unionfs.union.node import Node

_READERS = 8
_PATIENCE = 5.0  # seconds without a question
_ENOUGH = 256  # records that are taken, of the 2048 that the extension keeps (and ``noted``)
_TURNS = 8  # turns between two looks, in each of which the extension answers 64 at most
_FEW = 4  # nodes that are looked for in the records, sooner than taking those
_PATH = 4096  # bytes that are told of a path, its end


class Source(Protocol):
    """Where records come from: ``hooks.Hooks``, ``noted.Noted``."""

    def trace_for(self, pids: bytes) -> None:
        """Make records from now on, but of no asking by *pids* (32-bit numbers); none: no more."""

    def trace_waiting(self) -> int:
        """Return how many records there are."""

    def trace_mentions(self, node: int) -> bool:
        """Return whether one of them is about *node* (its number)."""

    def trace_take(self) -> tuple[bytes, bytes, int]:
        """Return the records, which are then gone, the names in them, and how many were lost."""


class Tracer:
    """The readers of one mount of *config*; all in the main thread, without an await.

    ``_told`` has what nodes are called, as it is sent. ``_asleep`` are readers that were dropped:
    each one's file, how much he loses by coming back, and how many requests there had been.
    """

    def __init__(self, inodes: Inodes, config: MountConfig, requests: Callable[[], int]) -> None:
        """*requests* says how many requests there were since the mount began, traced or not."""
        self._inodes = inodes
        self._config = config
        self._requests = requests
        self._source: Source = native.hooks or _noted()
        self._readers: dict[bytes, Reader] = {}
        self._asleep: dict[bytes, tuple[int, int, int]] = {}
        self._told: dict[int, bytes] = {}
        self._layers: list[bytes] = []
        self._pieces = Pieces(self._node)
        self._drop_at = 0.0
        self._turns = 0

    def readers(self) -> int:
        """Return how many trace now."""
        self._drop_silent()
        return len(self._readers)

    def answer(self, name: bytes, number: int, pid: int, *, in_memory: bool = False) -> bytes:
        """Return answer *number* for the reader *name*, who is process *pid*.

        The first, 0, begins the telling. To ask again for the latest gives the same. *in_memory*:
        its pieces are to be in his file. Raises OSError: EBUSY where too many trace, ESTALE for a
        reader that is not known (any more).
        """
        reader = self._readers.get(name) or self._begin(name, number, pid)
        reader.asked = time.monotonic()
        if number == reader.number + 1:
            if number:
                self._drain_all()
                reader.answer(in_memory=in_memory)
            else:
                reader.begin()
            reader.number = number
        elif number != reader.number:
            raise _error(errno.ESTALE)
        return reader.reply

    def end(self, name: bytes) -> None:
        """Let the reader *name* go, if there is one."""
        if name in self._asleep:
            close(self._asleep.pop(name)[0])
        reader = self._readers.pop(name, None)
        if reader is not None:
            reader.close()
            self._changed()

    def finish(self) -> None:
        """Leave each reader what there is: nobody will be answered any more."""
        try:
            if self._readers:
                self._drop(list(self._readers))
            for fd, _, before in self._asleep.values():
                add_lost(fd, self._requests() - before)
        except Exception as error:
            self._give_up(error)

    def go_on(self, config: MountConfig) -> None:
        """Be of a mount on the layers of *config* from now on; after ``settle``."""
        self._config = config
        if self._readers:
            self._layers = _layers(config)

    def forget(self, nodes: Sequence[tuple[int, int]]) -> None:
        """As ``settle``, before *nodes* are forgotten: their numbers, with anything else.

        What is removed is mostly forgotten at once, and then nothing that is new is about it.
        """
        if not self._readers:
            return
        try:
            if len(nodes) <= _FEW and not any(self._source.trace_mentions(n) for n, _ in nodes):
                for number, _ in nodes:
                    self._told.pop(number, None)
                return
        except Exception as error:
            self._give_up(error)
        self.settle()

    def settle(self) -> None:
        """Tell of what was asked until now; before any node moves, is copied up or removed.

        Whatever goes wrong ends the telling, and nothing else.
        """
        if not self._readers:
            return
        try:
            if self._source.trace_waiting():
                self._drain()
            self._told.clear()
        except Exception as error:
            self._give_up(error)

    def _begin(self, name: bytes, number: int, pid: int) -> Reader:
        self._drop_silent()
        if number and name not in self._asleep:
            raise _error(errno.ESTALE)
        if len(self._readers) >= _READERS:
            raise _error(errno.EBUSY)
        lost, file = 0, None
        if number:
            file, lost, before = self._asleep.pop(name)
            lost += self._requests() - before
        if not self._readers:
            self._pieces = Pieces(self._node)
            self._pieces.clock = time.time_ns() - time.monotonic_ns()
            self._layers = _layers(self._config)
        else:
            self._drain_all()  # of that he shall hear nothing
        reader = self._readers[name] = Reader(name, pid, number - 1, lost, file)
        self._changed()
        return reader

    def _changed(self) -> None:
        """Readers came or went."""
        pids = [reader.pid for reader in self._readers.values()]
        self._source.trace_for(struct.pack(f"={len(pids)}I", *pids))
        self._told.clear()
        loop.at_turns(self._turn if pids else None)

    def _turn(self) -> None:
        """Look after what is kept: before requests are waited for, but not each time."""
        self._turns += 1
        if self._turns % _TURNS:
            return
        try:
            if self._source.trace_waiting() >= _ENOUGH:
                self._drain()
            if time.monotonic() > self._drop_at:
                self._drop_silent()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        failure(error, "trace")
        while self._readers:
            self._readers.popitem()[1].close()
        self._changed()

    def _drop_silent(self) -> None:
        now = time.monotonic()
        self._drop_at = now + 1
        silent = [name for name, each in self._readers.items() if now > each.asked + _PATIENCE]
        if silent:
            self._drop(silent)

    def _drop(self, names: list[bytes]) -> None:
        self._drain_all()
        for name in names:
            file, lost = self._readers.pop(name).leave()
            self._asleep[name] = (file, lost, self._requests())
        while len(self._asleep) > _READERS:
            close(self._asleep.pop(next(iter(self._asleep)))[0])
        self._changed()

    def _drain(self) -> None:
        """Take what records there are, and give the readers the pieces that came to an end."""
        records, names, lost = self._source.trace_take()
        if lost:
            for reader in self._readers.values():
                reader.lost += lost
        self._give(self._pieces.add(records, names))

    def _drain_all(self) -> None:
        """Give the readers all that there is."""
        self._drain()
        self._give(self._pieces.end())

    def _give(self, pieces: Iterable[Made]) -> None:
        for piece, count in pieces:
            for reader in self._readers.values():
                reader.keep(piece, count)

    def _node(self, number: int) -> bytes:
        """Return what the node *number* is called, as it is sent."""
        return self._told.get(number) or self._tell(number)

    def _tell(self, number: int) -> bytes:
        """Return what the node *number* is called, as it is sent, and keep it."""
        path, layer = self._where(number)
        if len(path) > _PATH:
            path = b"/..." + path[-_PATH:]
        told = self._told[number] = NODE.pack(number, len(path), len(layer)) + path + layer
        return told

    def _where(self, number: int) -> tuple[bytes, bytes]:
        """Return path and layer of the node *number*, both empty if nobody knows it."""
        node = self._inodes.find(number)
        if node is not None:
            return node.path(), self._layer_of(node)
        found = self._inodes.lending.where(number)
        return (found[0], self._called(found[1])) if found is not None else (b"", b"")

    def _layer_of(self, node: Node) -> bytes:
        """Return the layer that shows *node*, without asking any filesystem."""
        if not node.is_dir:
            layer = node.source.layer.number if node.source is not None else 0
        elif node.is_ready and node.parts:
            layer = node.parts[0].layer.number
        elif node.candidates:
            layer = node.candidates[0].layer.number
        else:
            return b""
        return self._called(layer)

    def _called(self, layer: int) -> bytes:
        return self._layers[layer if self._config.upperdir is not None else layer - 1]


def _noted() -> Source:
    from unionfs.fuse.noted import Noted

    return Noted()


def _layers(config: MountConfig) -> list[bytes]:
    """Return what layers are called, topmost first, as in ``user.unionfs.layer``."""
    from unionfs.inspect.stack import called

    names = called(config.lowerdirs, config.lower_names, config.upperdir)
    return [str(name.number or name.label).encode() for name in names]


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))

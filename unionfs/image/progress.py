"""How an import tells somebody what it is doing; it prints nothing itself."""

from __future__ import annotations

import threading
from typing import Protocol

from unionfs.digest import Digest


class Progress(Protocol):
    """Called for several layers at a time in any order, from several threads but one at a time.

    ``layer`` is the layer's diffID, None for a root filesystem whose diffID is not known before
    its end. Sizes are bytes of the layer as its source holds it, so compressed where it is.
    """

    def layer_started(self, layer: Digest | None, total: int | None) -> None:
        """A layer is being read; *total* is its size, None where that is unknown."""

    def advanced(self, layer: Digest | None, count: int) -> None:
        """*count* more bytes have been read."""

    def layer_done(self, layer: Digest | None, *, stored_before: bool) -> None:
        """The layer is stored; *stored_before*: it was there, and was not read."""


class OneAtATime:
    """Passes on to *progress*, one call at a time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()

    def layer_started(self, layer: Digest | None, total: int | None) -> None:
        """Pass it on."""
        with self._lock:
            self._progress.layer_started(layer, total)

    def advanced(self, layer: Digest | None, count: int) -> None:
        """Pass it on."""
        with self._lock:
            self._progress.advanced(layer, count)

    def layer_done(self, layer: Digest | None, *, stored_before: bool) -> None:
        """Pass it on."""
        with self._lock:
            self._progress.layer_done(layer, stored_before=stored_before)


class Quiet:
    """A Progress that tells nobody."""

    def layer_started(self, layer: Digest | None, total: int | None) -> None:
        """Do nothing."""

    def advanced(self, layer: Digest | None, count: int) -> None:
        """Do nothing."""

    def layer_done(self, layer: Digest | None, *, stored_before: bool) -> None:
        """Do nothing."""

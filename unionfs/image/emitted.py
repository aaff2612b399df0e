"""A layer that a function writes as a tar, applied while it is being written."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import BinaryIO

from unionfs.ondisk.flavour import Flavour
from unionfs.store.layers import Making
from unionfs.tarball.apply import Applied, apply_layer
from unionfs.tarball.limits import Limits

Emit = Callable[[BinaryIO], object]
"""Writes an uncompressed layer tar."""


def apply_emitted(
    emit: Emit,
    making: Making,
    flavour: Flavour,
    limits: Limits,
    progress: Callable[[int], None],
) -> Applied:
    """Apply the tar that *emit* writes, in a thread of its own; *progress* gets counts of bytes.

    Raises what *emit* raises, and as ``apply_layer``.
    """
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    emitter = _Emitter(emit, write_fd)
    try:
        with os.fdopen(read_fd, "rb") as tar:
            applied = apply_layer(
                tar,
                making.tree,
                flavour=flavour,
                limits=limits,
                progress=progress,
                recipe=making.recipe,
            )
    except Exception:
        emitter.join()
        if emitter.error is not None and not isinstance(emitter.error, BrokenPipeError):
            raise emitter.error from None  # why the tar ended where it did
        raise
    finally:
        emitter.join()  # with the pipe closed it ends at once
    if emitter.error is not None:
        raise emitter.error
    return applied


class _Emitter(threading.Thread):
    """Lets *emit* write to a pipe, which is closed then; ``error`` is why that failed."""

    def __init__(self, emit: Emit, write_fd: int) -> None:
        super().__init__(name="layer-emitter", daemon=True)
        self.error: Exception | None = None
        self._emit = emit
        self._out: BinaryIO = os.fdopen(write_fd, "wb")
        self.start()

    def run(self) -> None:
        try:
            with self._out:
                self._emit(self._out)
        except Exception as error:  # raised again by the thread that waits for this one
            self.error = error

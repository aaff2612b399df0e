"""From a layer as its source holds it to a stored layer: verified, decompressed, applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from unionfs.digest import Digest
from unionfs.errors import CorruptError
from unionfs.image.files import Section
from unionfs.ondisk.flavour import Flavour
from unionfs.tarball.apply import Applied, apply_layer
from unionfs.tarball.compression import open_decompressed
from unionfs.tarball.limits import Limits
from unionfs.tarball.verify import VerifyingReader

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _Counting:
    """Counts what is read of *section*, by whatever thread."""

    def __init__(self, section: Section) -> None:
        self._section = section
        self.count = 0
        self._told = 0

    def read(self, count: int = -1) -> bytes:
        data = self._section.read(count)
        self.count += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._section.readinto(buffer)
        self.count += count
        return count

    def news(self) -> int:
        """Return how many bytes were read since the last call."""
        count = self.count
        told, self._told = self._told, count
        return count - told


def applier(
    section: Section,
    digest: Digest | None,
    flavour: Flavour,
    limits: Limits,
    progress: Callable[[int], None],
) -> Callable[[int], Applied]:
    """Return what ``Layers.ingest`` calls to write the layer in *section* to a directory.

    *progress* is called, in the same thread, with counts of bytes read of *section*. The result
    raises BlobMismatchError if the section is not what *digest* names, and as ``apply_layer``.
    """

    def apply(dest_fd: int) -> Applied:
        counting = _Counting(section)
        raw = cast("BinaryIO", counting)
        verifying = None
        if digest is not None:
            verifying = VerifyingReader(raw, digest, section.size)
            raw = cast("BinaryIO", verifying)
        try:
            applied = apply_layer(
                open_decompressed(raw),
                dest_fd,
                flavour=flavour,
                limits=limits,
                progress=lambda _: progress(counting.news()),
            )
        except CorruptError:
            if verifying is not None:
                verifying.finish()  # the wrong bytes are the reason, where they are wrong
            raise
        if verifying is not None:
            verifying.finish()
        progress(counting.news())
        return applied

    return apply

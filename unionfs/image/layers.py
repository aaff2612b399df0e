"""From a layer as its source holds it to a stored layer: verified, decompressed, applied, kept.

What is kept is the layer as it was shipped. A plain tar need not be, since the recipe makes it
again; it is where the tar has no recipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from unionfs.errors import CorruptError
from unionfs.image.files import Content, Section
from unionfs.image.manifest import layer_type
from unionfs.image.plan import Claim
from unionfs.ondisk.flavour import Flavour
from unionfs.store.blobs import Shipped
from unionfs.store.layers import Making
from unionfs.syscalls.copy import reflink
from unionfs.tarball.apply import Applied, apply_layer
from unionfs.tarball.compression import MAGIC_SIZE, Kind, kind_of, open_decompressed
from unionfs.tarball.limits import Limits
from unionfs.tarball.verify import VerifyingReader
from unionfs.tarball.writer import HashingWriter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_COPY = 1 << 20


class _Counting:
    """Counts what is read of *section*, by whatever thread, and writes it to *copy* as well."""

    def __init__(self, section: Content, copy: BinaryIO | None) -> None:
        self._section = section
        self._copy = copy
        self.size = section.size
        self.count = 0
        self._told = 0

    def read(self, count: int = -1) -> bytes:
        data = self._section.read(count)
        self.count += len(data)
        if self._copy is not None:
            self._copy.write(data)
        return data

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def news(self) -> int:
        """Return how many bytes were read since the last call."""
        count = self.count
        told, self._told = self._told, count
        return count - told


def applier(
    section: Content,
    claim: Claim,
    flavour: Flavour,
    limits: Limits,
    progress: Callable[[int], None],
    *,
    keep: bool,
) -> Callable[[Making], Applied]:
    """Return what ``Layers.ingest`` calls to write the layer in *section* to a directory.

    With *keep* what comes compressed is kept as it is. *progress* is called, in the same thread,
    with counts of bytes read of *section*. The result raises BlobMismatchError if the section is
    not what *claim* says, and as ``apply_layer``.
    """

    def apply(making: Making) -> Applied:
        kind = _kind(section)
        wanted = keep and kind != "none"
        if wanted and claim.digest is not None:
            with open(making.blob_path, "xb") as copy, _source(section, copy) as (source, to):
                applied = _apply(_Counting(source, to), claim, making, flavour, limits, progress)
            making.blob = Shipped(claim.digest, claim.media_type or layer_type(kind), section.size)
            return applied
        applied = _apply(_Counting(section, None), claim, making, flavour, limits, progress)
        if wanted or not applied.has_recipe:
            making.blob = copy_blob(section.again(), claim, making.blob_path)
        return applied

    return apply


def is_compressed(section: Content) -> bool:
    """Return whether *section* starts as what is compressed."""
    return _kind(section) != "none"


def copy_blob(section: Content, claim: Claim, path: str) -> Shipped:
    """Copy all of *section*, which is closed, to the new file *path*; return what that is.

    Raises BlobMismatchError if it is not what *claim* says, OSError.
    """
    with section, open(path, "xb") as file:
        out = HashingWriter(file)
        media_type = claim.media_type or layer_type(_kind(section))
        source = cast("BinaryIO", section)
        if claim.digest is None:
            while data := source.read(_COPY):
                out.write(data)
            digest = out.digest()
        else:
            verifying = VerifyingReader(source, claim.digest, section.size)
            while data := verifying.read(_COPY):
                file.write(data)
            verifying.finish()
            digest = claim.digest
        file.flush()
        os.fsync(file.fileno())
    return Shipped(digest, media_type, section.size)


@contextmanager
def _source(section: Content, copy: BinaryIO) -> Iterator[tuple[Content, BinaryIO | None]]:
    """What to read *section* from, and where to write what is read: nowhere, if *copy* shares it.

    Then the copy is what is read, and so what is verified, whatever becomes of the source.
    """
    if section.is_whole_file() and reflink(section.fileno(), copy.fileno()):
        with Section(os.open(copy.name, os.O_RDONLY | os.O_CLOEXEC), 0, section.size) as shared:
            yield shared, None
    else:
        yield section, copy


def _kind(section: Content) -> Kind:
    return kind_of(section.start(MAGIC_SIZE))


def _apply(
    counting: _Counting,
    claim: Claim,
    making: Making,
    flavour: Flavour,
    limits: Limits,
    progress: Callable[[int], None],
) -> Applied:
    raw = cast("BinaryIO", counting)
    verifying = None
    if claim.digest is not None:
        verifying = VerifyingReader(raw, claim.digest, counting.size)
        raw = cast("BinaryIO", verifying)
    try:
        applied = apply_layer(
            open_decompressed(raw),
            making.tree,
            flavour=flavour,
            limits=limits,
            progress=lambda _: progress(counting.news()),
            recipe=making.recipe,
        )
    except CorruptError:
        if verifying is not None:
            verifying.finish()  # the wrong bytes are the reason, where they are wrong
        raise
    if verifying is not None:
        verifying.finish()
    progress(counting.news())
    return applied

"""What is to be imported: decided from documents alone, before a layer is touched."""

from __future__ import annotations

from dataclasses import dataclass

from unionfs.digest import Digest
from unionfs.errors import CorruptError, NotFoundError, RefusedError
from unionfs.image.documents import Descriptor, Fields, decode
from unionfs.image.files import Files, MissingFileError, read_document
from unionfs.image.platform import Platform
from unionfs.store.records import NewImage


class WrongBlobError(CorruptError):
    """A blob is not what the document that refers to it says."""


class NoSuchImageError(NotFoundError):
    """The source has images, but not the one that is wanted."""


class NotAnImageError(RefusedError):
    """The source is nothing that can be imported as an image."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a source says of a layer's file, None where it says nothing."""

    digest: Digest | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class LayerSource:
    """Where a layer comes from: the file *name* of the source, compressed or not.

    ``digest``, ``size`` (bytes) and ``media_type`` are those of the file as a descriptor has them;
    None where the format has no descriptors, and only the diffID tells whether the right bytes
    came.
    """

    diff_id: Digest
    name: bytes
    digest: Digest | None
    size: int | None
    media_type: str | None = None

    @property
    def claim(self) -> Claim:
        """What is said of the file."""
        return Claim(self.digest, self.media_type)


@dataclass(frozen=True, slots=True)
class Plan:
    """An image to add, where its layers are (bottommost first), what the source calls it."""

    image: NewImage
    layers: tuple[LayerSource, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """What an import needs from a config document, with all that is used later checked too."""

    platform: Platform
    diff_ids: tuple[Digest, ...]
    created: str | None


def blob_name(digest: Digest) -> bytes:
    """Return where a layout keeps the blob *digest* (image-spec image-layout.md, "Blobs")."""
    return f"blobs/{digest.algorithm}/{digest.hex}".encode()


def read_blob(files: Files, found: Descriptor, what: str) -> bytes:
    """Return the document that *found* describes, checked against it. *what* it should be."""
    data = read_document(files, blob_name(found.digest))
    if len(data) != found.size:
        raise WrongBlobError(f"{what} {found.digest} has {len(data)} bytes and not {found.size}")
    check_digest(data, found.digest, what)
    return data


def check_digest(data: bytes, digest: Digest, what: str) -> None:
    """Raise WrongBlobError unless *data* is what *digest* names."""
    hasher = digest.hasher()
    hasher.update(data)
    if not digest.matches(hasher):
        raise WrongBlobError(
            f"{what} {digest} has the content of {digest.algorithm}:{hasher.hexdigest()}"
        )


def check_blob_size(files: Files, source: LayerSource) -> None:
    """Raise WrongBlobError, MissingFileError unless the layer's file is as long as it should be."""
    with files.open(source.name) as file:
        if source.size is not None and file.size != source.size:
            raise WrongBlobError(
                f"layer blob {source.digest} has {file.size} bytes and not {source.size}"
            )


def read_config(data: bytes) -> Config:
    """Check the config document *data* (image-spec config.md). Raises BadDocumentError."""
    fields = Fields(decode(data, "image config"), "image config")
    rootfs = fields.child("rootfs")
    if rootfs is None or rootfs.text("type") != "layers":
        raise NotAnImageError("image config has no rootfs of layers: not a container image")
    _check_run_config(fields.child("config"))
    for entry in fields.children("history"):
        for key in ("created", "created_by", "author", "comment"):
            entry.text(key)
    platform = Platform(
        fields.text("os") or "linux", fields.text("architecture"), fields.text("variant")
    )
    return Config(platform, rootfs.digests("diff_ids"), fields.text("created") or None)


def new_image(image_id: Digest, data: bytes, config: Config, manifest: bytes | None) -> NewImage:
    """Return what the store is given of an image."""
    return NewImage(
        id=image_id,
        config=data,
        diff_ids=config.diff_ids,
        architecture=config.platform.architecture,
        os=config.platform.os,
        variant=config.platform.variant or None,
        created=config.created,
        manifest=manifest,
    )


def is_missing(files: Files, name: bytes) -> bool:
    """Return whether *files* cannot give the file *name*."""
    try:
        files.open(name).close()
    except MissingFileError:
        return True
    return False


def _check_run_config(fields: Fields | None) -> None:
    if fields is None:
        return
    for key in ("User", "WorkingDir", "StopSignal"):
        fields.text(key)
    for key in ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild"):
        fields.texts(key)
    for key in ("ExposedPorts", "Volumes"):
        fields.mapping(key)
    fields.strings("Labels")

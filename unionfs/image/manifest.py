"""Manifests and indexes: what each may say, and the plan that a manifest makes.

Media types are image-spec's and those of Docker's schema 2, which image-spec took over
(media-types.md, "Compatibility Matrix").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unionfs.errors import RefusedError
from unionfs.image.documents import BadDocumentError, Descriptor, Fields, decode, descriptor
from unionfs.image.files import Files
from unionfs.image.plan import (
    Config,
    LayerSource,
    NotAnImageError,
    Plan,
    WrongBlobError,
    blob_name,
    is_missing,
    new_image,
    read_blob,
    read_config,
)
from unionfs.tarball.compression import Kind

_OCI = "application/vnd.oci.image."
_DOCKER = "application/vnd.docker."
OCI_INDEX = _OCI + "index.v1+json"
OCI_MANIFEST = _OCI + "manifest.v1+json"
OCI_CONFIG = _OCI + "config.v1+json"
OCI_LAYER = _OCI + "layer.v1.tar"
_SUFFIXES: dict[Kind, str] = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}
INDEXES = frozenset((OCI_INDEX, _DOCKER + "distribution.manifest.list.v2+json"))
MANIFESTS = frozenset((OCI_MANIFEST, _DOCKER + "distribution.manifest.v2+json"))
_CONFIGS = frozenset((OCI_CONFIG, _DOCKER + "container.image.v1+json"))
_LAYERS = frozenset(
    (
        *(OCI_LAYER + suffix for suffix in _SUFFIXES.values()),
        _DOCKER + "image.rootfs.diff.tar",
        _DOCKER + "image.rootfs.diff.tar.gzip",
        _DOCKER + "image.rootfs.diff.tar.zstd",
    )
)
_FOREIGN = frozenset(
    (
        *(_OCI + "layer.nondistributable.v1.tar" + suffix for suffix in _SUFFIXES.values()),
        _DOCKER + "image.rootfs.foreign.diff.tar",
        _DOCKER + "image.rootfs.foreign.diff.tar.gzip",
    )
)


class AmbiguousDocumentError(RefusedError):
    """A document can be read as two things (CVE-2021-41190)."""


class UnsupportedLayerError(RefusedError):
    """A layer is of a kind that cannot be unpacked, or lives elsewhere."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: the document itself, its config and its layers, bottommost first."""

    data: bytes
    config: Descriptor
    layers: tuple[Descriptor, ...]


def layer_type(kind: Kind) -> str:
    """Return the media type of a layer that is compressed in this way."""
    return OCI_LAYER + _SUFFIXES[kind]


def is_dockers(media_type: str) -> bool:
    """Return whether a media type is one of Docker's, and not of OCI's."""
    return media_type.startswith(_DOCKER)


def read_manifest(files: Files, found: Descriptor) -> Manifest:
    """Return the manifest that *found* describes. Raises CorruptError and RefusedError."""
    data = read_blob(files, found, "manifest")
    fields = Fields(decode(data, "image manifest"), "image manifest")
    _check_kind(fields, found.media_type, ("manifests", "fsLayers"))
    config = fields.child("config")
    if config is None:
        raise BadDocumentError("image manifest has no config")
    layers = tuple(descriptor(layer) for layer in fields.children("layers"))
    return Manifest(data, descriptor(config), layers)


def read_index(data: bytes, media_type: str = "") -> tuple[Descriptor, ...]:
    """Return the descriptors in an index. Raises CorruptError and RefusedError."""
    fields = Fields(decode(data, "image index"), "image index")
    _check_kind(fields, media_type, ("layers", "config", "fsLayers"))
    return tuple(descriptor(entry) for entry in fields.children("manifests"))


def is_image(manifest: Manifest) -> bool:
    """Return whether *manifest* is that of an image, and not of an artifact."""
    return manifest.config.media_type in _CONFIGS


def read_manifest_config(files: Files, manifest: Manifest) -> tuple[bytes, Config]:
    """Return the config of *manifest*, as bytes and checked. Raises CorruptError, RefusedError."""
    if not is_image(manifest):
        raise NotAnImageError(
            f"not a container image: its config is a {manifest.config.media_type!r}"
        )
    data = read_blob(files, manifest.config, "image config")
    return data, read_config(data)


def plan_of(files: Files, manifest: Manifest, names: Sequence[str]) -> Plan:
    """Return the plan for importing the image of *manifest*. Raises CorruptError, RefusedError."""
    data, config = read_manifest_config(files, manifest)
    if len(config.diff_ids) != len(manifest.layers):
        raise WrongBlobError(
            f"image {manifest.config.digest} has {len(manifest.layers)} layers in its manifest and "
            f"{len(config.diff_ids)} in its config"
        )
    layers = []
    for diff_id, layer in zip(config.diff_ids, manifest.layers, strict=True):
        _check_layer(files, layer)
        name = blob_name(layer.digest)
        layers.append(LayerSource(diff_id, name, layer.digest, layer.size, layer.media_type))
    image = new_image(manifest.config.digest, data, config, manifest.data)
    return Plan(image, tuple(layers), tuple(names))


def _check_layer(files: Files, layer: Descriptor) -> None:
    if layer.media_type in _FOREIGN:
        if is_missing(files, blob_name(layer.digest)):
            raise UnsupportedLayerError(
                f"layer {layer.digest} is not distributed with its image ({layer.media_type})"
            )
    elif layer.media_type not in _LAYERS:
        raise UnsupportedLayerError(
            f"layer {layer.digest} is of an unknown kind: {layer.media_type!r}"
        )


def _check_kind(fields: Fields, expected: str, forbidden: Sequence[str]) -> None:
    """Raise unless the document is of the one kind that its descriptor says, and of no other."""
    for key in forbidden:
        if fields.has(key):
            raise AmbiguousDocumentError(f"{fields.what} also has {key!r}: it could be two things")
    own = fields.text("mediaType")
    if own and expected and own != expected:
        raise AmbiguousDocumentError(
            f"{fields.what} calls itself {own!r} and its descriptor {expected!r}"
        )

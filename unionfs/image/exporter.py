"""Writing an image of the store to files that other tools read.

The config is written byte for byte, so the image keeps its ID, and the manifest too where every
layer has the blob that it names. Nothing is visible at the destination before all is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from unionfs.digest import Digest
from unionfs.image.destination import LinkingSink, Sink, Written, opened, parse
from unionfs.image.documents import Descriptor, Fields, decode, descriptor
from unionfs.image.layout import CONTAINERD_NAME, REF_NAME
from unionfs.image.manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, is_dockers, layer_type
from unionfs.image.plan import blob_name
from unionfs.image.progress import OneAtATime, Progress, Quiet
from unionfs.image.shipping import (
    copy_kept,
    kept_blob,
    kind_of_blob,
    media_type,
    write_layer,
)
from unionfs.image.side_by_side import Stop, run_all
from unionfs.image.source import Kind as Format
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store
from unionfs.tarball.compression import Kind

_KINDS: Mapping[str, Kind] = {"": "none", "+gzip": "gzip", ".gzip": "gzip", "+zstd": "zstd"}


@dataclass(frozen=True, slots=True)
class ExportedLayer:
    """A layer as it was written: its blob, and the digest of the one it was imported as.

    ``before`` is None where that is not known (an image made here, say).
    """

    diff_id: Digest
    media_type: str
    digest: Digest
    size: int
    before: Digest | None

    @property
    def has_changed(self) -> bool:
        """Whether the blob is known to be another one than that which was imported."""
        return self.before is not None and self.before != self.digest


@dataclass(frozen=True, slots=True)
class Exported:
    """An image as it was written: the manifest's digest (None: the format has none), layers."""

    manifest: Digest | None
    layers: tuple[ExportedLayer, ...]


def export_image(
    store: Store,
    image: ImageRecord,
    destination: str,
    *,
    name: str | None = None,
    compression: Kind | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write *image* to *destination* (``oci:DIR``, ``oci-archive:FILE``, ``docker-archive:FILE``).

    It is called *name* there (``NAME:TAG``; None: it has none). Layers are written as they came
    where their blobs were kept, else (and where those are compressed otherwise) as *compression*
    says; without it as they were when they came, and in a docker-archive as plain tars. Raises
    UsageError, TakenError, UnwritableError, CorruptError for a layer that is not what it was;
    nothing is at the destination then.
    """
    where = parse(destination)
    told = OneAtATime(progress or Quiet())
    is_docker = where.kind is Format.DOCKER_ARCHIVE
    if is_docker and compression is None:
        compression = "none"
    with store.lease(image.diff_ids), opened(where) as sink:
        export = _Export(store, image, sink, compression, told, None if is_docker else _blob)
        export.write_layers()
        if is_docker:
            return export.finish_docker(name)
        return export.finish_layout(name, where.reference)


def export_for_skopeo(
    store: Store, image: ImageRecord, directory: str, progress: Progress
) -> Exported:
    """Write *image* to the empty *directory* on the store's filesystem as skopeo's ``dir:`` has it.

    Kept blobs are hard links, and the manifest is the one that the image came with wherever every
    layer is the blob that it names, Docker's schema 2 included. Hold a lease on the layers. Raises
    LostTarError, CorruptError, OSError.
    """
    sink = LinkingSink(directory)
    export = _Export(store, image, sink, None, OneAtATime(progress), lambda digest: digest.hex)
    export.write_layers()
    return export.finish_directory()


class _Export:
    """One export of *image* to *sink*."""

    def __init__(
        self,
        store: Store,
        image: ImageRecord,
        sink: Sink,
        compression: Kind | None,
        progress: Progress,
        place: Callable[[Digest], str] | None,
    ) -> None:
        """*place*: where a blob goes by its digest; None: layers are called by their diffIDs."""
        self._store = store
        self._image = image
        self._sink = sink
        self._progress = progress
        self._compression = compression
        self._place = place
        self._stop = Stop()
        self._written: dict[Digest, ExportedLayer] = {}
        self._came = _came_as(image)

    def write_layers(self) -> None:
        """Write the blob of every layer, each once."""
        jobs = [partial(self._layer, diff_id) for diff_id in dict.fromkeys(self._image.diff_ids)]
        if self._sink.parallel:
            run_all(jobs, self._stop)
        else:
            for job in jobs:
                job()

    def finish_layout(self, name: str | None, reference: str | None) -> Exported:
        """Write the documents of an OCI layout (image-spec image-layout.md)."""
        layers = self._layers()
        self._sink.document(_blob(self._image.id), self._image.config_blob)
        data = self._manifest(layers, is_oci=True)
        digest = Digest.of(data)
        self._sink.document(_blob(digest), data)
        entry: dict[str, Any] = _descriptor(OCI_MANIFEST, digest, len(data))
        tag = reference or (name or "").rpartition(":")[2]
        if tag:
            entry["annotations"] = {REF_NAME: tag}
            if name and not reference:
                entry["annotations"][CONTAINERD_NAME] = name
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        self._sink.document("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        self._sink.document("index.json", _json(index))
        return Exported(digest, layers)

    def finish_directory(self) -> Exported:
        """Write the documents of a ``dir:`` (containers/image, ``directory`` package)."""
        layers = self._layers()
        data = self._manifest(layers, is_oci=False)
        self._sink.document(self._image.id.hex, self._image.config_blob)
        self._sink.document("manifest.json", data)
        self._sink.document("version", b"Directory Transport Version: 1.1\n")
        return Exported(Digest.of(data), layers)

    def finish_docker(self, name: str | None) -> Exported:
        """Write the documents of what ``docker load`` takes (moby, image/tarexport)."""
        layers = self._layers()
        config = f"{self._image.id.hex}.json"
        self._sink.document(config, self._image.config_blob)
        entry = {
            "Config": config,
            "RepoTags": [name] if name else [],
            "Layers": [_docker_name(layer.diff_id) for layer in layers],
        }
        self._sink.document("manifest.json", _json([entry]))
        return Exported(None, layers)

    def _layers(self) -> tuple[ExportedLayer, ...]:
        return tuple(self._written[diff_id] for diff_id in self._image.diff_ids)

    def _layer(self, diff_id: Digest) -> None:
        def told(count: int) -> None:
            self._stop.check()
            self._progress.advanced(diff_id, count)

        came = self._came.get(diff_id)
        before = None if came is None else came.digest
        place = self._place or (lambda _: _docker_name(diff_id))
        blob = kept_blob(self._store, diff_id, self._compression, before)
        if blob is not None:
            kind_name = media_type(blob, kind_of_blob(self._store, blob))
            self._progress.layer_started(diff_id, blob.size)
            written = Written(blob.digest, blob.size)
            copy = partial(copy_kept, self._store, blob, told=told)
            self._sink.kept(self._store.blobs.path(blob.digest), written, copy, place)
        else:
            kind = self._compression or _kind_of(came)
            kind_name = layer_type(kind)
            self._progress.layer_started(diff_id, self._store.layers.get(diff_id).tar_size)
            written = self._sink.blob(partial(self._compressed, diff_id, kind, told=told), place)
        self._written[diff_id] = ExportedLayer(
            diff_id, kind_name, written.digest, written.size, before
        )
        self._progress.layer_done(diff_id, stored_before=False)

    def _compressed(self, diff_id: Digest, kind: Kind, out: BinaryIO, told: Any) -> None:
        write_layer(self._store, diff_id, kind, out, told)

    def _manifest(self, layers: tuple[ExportedLayer, ...], *, is_oci: bool) -> bytes:
        """Return the manifest that the image came with, or a new one if its layers are others.

        A new one too if it has to be OCI's (*is_oci*) and came as Docker's.
        """
        came = self._image.manifest_blob
        if came is not None:
            fields = Fields(decode(came, "image manifest"), "image manifest")
            found = [descriptor(layer) for layer in fields.children("layers")]
            if _blobs(found) == _blobs(layers) and not (is_oci and _is_docker(fields)):
                return came
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(OCI_CONFIG, self._image.id, len(self._image.config_blob)),
            "layers": [_descriptor(layer.media_type, layer.digest, layer.size) for layer in layers],
        }
        return _json(document)


def _blobs(layers: Iterable[Descriptor | ExportedLayer]) -> list[tuple[Digest, int]]:
    return [(layer.digest, layer.size) for layer in layers]


def _is_docker(manifest: Fields) -> bool:
    """Return whether a manifest, or anything that it names, is of Docker's media types."""
    named = [descriptor(one) for one in manifest.children("layers")]
    config = manifest.child("config")
    types = [one.media_type for one in named] + [config.text("mediaType") if config else ""]
    return manifest.text("mediaType") not in ("", OCI_MANIFEST) or any(map(is_dockers, types))


def _came_as(image: ImageRecord) -> Mapping[Digest, Descriptor]:
    """Return what the image's manifest said of its layers."""
    if image.manifest_blob is None:
        return {}
    fields = Fields(decode(image.manifest_blob, "image manifest"), "image manifest")
    found = [descriptor(layer) for layer in fields.children("layers")]
    return dict(zip(image.diff_ids, found, strict=True))


def _kind_of(came: Descriptor | None) -> Kind:
    """Return how a layer was compressed when it came; ours are in gzip."""
    if came is None:
        return "gzip"
    return next((k for end, k in _KINDS.items() if end and came.media_type.endswith(end)), "none")


def _docker_name(diff_id: Digest) -> str:
    return f"{diff_id.hex}.tar"


def _blob(digest: Digest) -> str:
    return blob_name(digest).decode()


def _descriptor(kind: str, digest: Digest, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": str(digest), "size": size}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()

"""Writing an OCI image layout from layer directories, always the same bytes for the same input.

Every file is written under a temporary name, synced and renamed; index.json comes last, so a
layout that was cut short has no image in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from unionfs.digest import Digest
from unionfs.errors import ConflictError, UsageError
from unionfs.image.clock import source_date_epoch, timestamp
from unionfs.image.layout import REF_NAME
from unionfs.image.manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, layer_type
from unionfs.image.plan import blob_name
from unionfs.image.platform import Platform, host
from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls.publish import fsync_dir, write_file
from unionfs.tarball.compression import Kind, compress
from unionfs.tarball.emit import emit_tree

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class DestinationError(ConflictError):
    """The directory for a new layout has something in it."""


class HistoryError(UsageError):
    """There is not one line of history for each layer."""


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """A layer as it was written: its diffID, and its blob's media type, digest and bytes."""

    diff_id: Digest
    media_type: str
    digest: Digest
    size: int

    def descriptor(self) -> dict[str, Any]:
        """Return the blob's descriptor (image-spec descriptor.md)."""
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}


def pack_layout(
    dest: str,
    layers: Sequence[bytes | str],
    *,
    flavour: Flavour,
    run_config: Mapping[str, Any] | None = None,
    history: Sequence[str] | None = None,
    compression: Kind = "gzip",
    reference: str = "latest",
    platform: Platform | None = None,
) -> Digest:
    """Write *layers*, directories in the kernel overlayfs's format, as an image to *dest*.

    *layers* are bottommost first, with one line of *history* (what made it) each. *dest* is made,
    or is empty. *run_config* is the config's ``config`` part. With SOURCE_DATE_EPOCH set, it is
    the time of creation and no file is newer. Return the manifest's digest. Raises
    DestinationError, HistoryError, BadEpochError, NotALayerError, OSError.
    """
    steps = history if history is not None else ["unionfs"] * len(layers)
    if len(steps) != len(layers):
        raise HistoryError(f"{len(layers)} layers with {len(steps)} lines of history")
    layout = _Layout(dest)
    packed = [layout.layer(layer, flavour, compression) for layer in layers]
    config = _config(platform or host(), packed, steps, run_config or {})
    config_descriptor = layout.document(config, OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config_descriptor,
        "layers": [layer.descriptor() for layer in packed],
    }
    found = layout.document(manifest, OCI_MANIFEST)
    layout.finish({**found, "annotations": {REF_NAME: reference}})
    return Digest.parse(found["digest"])


def _config(
    platform: Platform,
    layers: Sequence[PackedLayer],
    steps: Sequence[str],
    run_config: Mapping[str, Any],
) -> dict[str, Any]:
    created = timestamp()
    return {
        "created": created,
        "architecture": platform.architecture,
        **({"variant": platform.variant} if platform.variant else {}),
        "os": platform.os,
        "config": dict(run_config),
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
        "history": [{"created": created, "created_by": step} for step in steps],
    }


class _Layout:
    """A layout that is being written below *root*."""

    def __init__(self, root: str) -> None:
        os.makedirs(root, exist_ok=True)
        if os.listdir(root):
            raise DestinationError(f"{root} is not empty")
        self._root = root
        self._blobs = os.path.join(root, "blobs", "sha256")
        os.makedirs(self._blobs)

    def layer(self, directory: bytes | str, flavour: Flavour, kind: Kind) -> PackedLayer:
        """Write one layer's blob."""
        temporary = os.path.join(self._blobs, f".{secrets.token_hex(8)}")
        fd = os.open(directory, _DIR)
        try:
            with open(temporary, "xb") as file:
                out = _Hashing(file)
                with compress(kind, cast("BinaryIO", out)) as tar:
                    diff_id = emit_tree(fd, tar, flavour=flavour, mtime_max=source_date_epoch())
                file.flush()
                os.fsync(file.fileno())
            digest = out.digest()
            os.rename(temporary, os.path.join(self._blobs, digest.hex))
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise
        finally:
            os.close(fd)
        return PackedLayer(diff_id, layer_type(kind), digest, out.size)

    def document(self, value: Mapping[str, Any], media_type: str) -> dict[str, Any]:
        """Write a document as a blob; return its descriptor."""
        data = _json(value)
        digest = Digest.of(data)
        write_file(os.path.join(self._root, os.fsdecode(blob_name(digest))), data, 0o644)
        return {"mediaType": media_type, "digest": str(digest), "size": len(data)}

    def finish(self, entry: Mapping[str, Any]) -> None:
        """Write what makes a directory of blobs a layout with one image."""
        fsync_dir(self._blobs)
        marker = _json({"imageLayoutVersion": "1.0.0"})
        write_file(os.path.join(self._root, "oci-layout"), marker, 0o644)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        write_file(os.path.join(self._root, "index.json"), _json(index), 0o644)


class _Hashing(io.RawIOBase):
    """Writes to *file*, counting and hashing what goes through."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.size = 0
        self._file = file
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        self._hash.update(data)
        count = self._file.write(data)
        self.size += count
        return count

    def digest(self) -> Digest:
        return Digest("sha256", self._hash.hexdigest())


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()

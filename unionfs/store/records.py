"""What the store tells about layers, images and containers: plain frozen records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unionfs.digest import Digest


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """A stored layer. Sizes are bytes: of its tar, and of the content of its regular files.

    ``created`` is when it was stored (RFC 3339, UTC); ``images`` are the IDs that use it.
    """

    diff_id: Digest
    tar_size: int
    content_size: int
    entries: int
    created: str
    images: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """A layer as it was shipped: compressed or not, *size* bytes, under its own *digest*."""

    digest: Digest
    diff_id: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class NewImage:
    """What it takes to add an image whose layers are stored.

    ``config`` and ``manifest`` are the documents byte for byte (an image's ID is the digest of its
    config; ``manifest`` is None where the source had none). The caller has validated both.
    """

    id: Digest
    config: bytes
    diff_ids: tuple[Digest, ...]
    architecture: str
    os: str
    variant: str | None = None
    created: str | None = None
    manifest: bytes | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A stored image.

    ``config`` is the whole parsed config document (image-spec config.md) and ``run_config`` the
    part of it that says how to run (Env, Cmd, User, …). ``created`` is what the config says,
    ``imported`` when it came here (RFC 3339, UTC). ``diff_ids`` are bottommost first. ``size`` is
    the content of its layers in bytes, each layer counted once. ``names`` are sorted.
    """

    id: Digest
    names: tuple[str, ...]
    created: str | None
    architecture: str
    os: str
    variant: str | None
    manifest_digest: Digest | None
    diff_ids: tuple[Digest, ...]
    size: int
    imported: str
    chain_id: Digest | None
    config_blob: bytes = field(repr=False)
    manifest_blob: bytes | None = field(repr=False)

    @property
    def config(self) -> dict[str, Any]:
        """The parsed config document."""
        document: dict[str, Any] = json.loads(self.config_blob)
        return document

    @property
    def run_config(self) -> dict[str, Any]:
        """The config's ``config`` part; empty where the image has none."""
        return self.config.get("config") or {}

    @property
    def history(self) -> tuple[dict[str, Any], ...]:
        """The config's history, oldest first."""
        return tuple(self.config.get("history") or ())


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container: ``id`` (64 hex digits), its unique ``name``, its image, when it was created."""

    id: str
    name: str
    image_id: Digest
    created: str

    @property
    def short(self) -> str:
        """The first 12 digits of the ID, as container tools print IDs."""
        return self.id[:12]


def chain_id(diff_ids: Sequence[Digest]) -> Digest | None:
    """Return the ChainID of layers *diff_ids*, bottommost first (image-spec config.md).

    None for an image without layers, which has no chain.
    """
    chain: Digest | None = None
    for diff_id in diff_ids:
        chain = diff_id if chain is None else Digest.of(f"{chain} {diff_id}".encode())
    return chain

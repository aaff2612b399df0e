"""An image of the store, sent to a registry."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import IO

from unionfs.image import skopeo
from unionfs.image.exporter import Exported, export_for_skopeo
from unionfs.image.naming import naming
from unionfs.image.progress import Progress
from unionfs.image.reference import BadReferenceError, parse
from unionfs.image.skopeo import Access
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store


def push_image(
    store: Store,
    image: ImageRecord,
    reference: str,
    progress: AbstractContextManager[Progress],
    *,
    access: Access | None = None,
    terminal: IO[str] | None = None,
) -> Exported:
    """Send *image* to a registry as *reference* (``reference.parse``); return what was sent.

    Layers go as they came where their blobs were kept, and are compressed anew, into the store's
    ``tmp/``, where they were not. *progress* is for that; what is being sent skopeo shows on
    *terminal*. The registry is not sent what it has. Raises UsageError, RegistryError,
    SkopeoMissingError, CorruptError, UnavailableError (no space).
    """
    wanted = parse(reference)
    if wanted.digest is not None:
        raise BadReferenceError(f"{reference!r}: the digest follows from what is pushed")
    skopeo.require()
    with (
        naming(str(wanted)),
        store.failures_named(f"pushing to {wanted}"),
        store.lease(image.diff_ids),
        store.scratch() as directory,
    ):
        with progress as told:
            shipment = export_for_skopeo(store, image, directory, told)
        skopeo.copy(access or Access(), f"dir:{directory}", wanted.for_skopeo(), terminal)
    return shipment

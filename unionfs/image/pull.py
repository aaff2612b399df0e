"""An image from a registry, unpacked into the store while it is fetched."""

from __future__ import annotations

from contextlib import closing
from typing import Unpack

from unionfs.image.importer import import_plan
from unionfs.image.layout import plan_from_layout
from unionfs.image.naming import naming
from unionfs.image.reference import parse
from unionfs.image.remote import RemoteFiles
from unionfs.image.skopeo import Access
from unionfs.image.wishes import Wishes, understood
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store


def pull_image(
    store: Store,
    reference: str,
    *,
    access: Access | None = None,
    **wishes: Unpack[Wishes],
) -> ImageRecord:
    """Store the image *reference* (``reference.parse``) of a registry; return its record.

    Layers that are stored already are not fetched. The image is called as *wishes* or else as
    *reference* say. Raises UsageError for bad words, NotInRegistryError, RegistryError,
    SkopeoMissingError, NoSuchImageError (not for this platform), CorruptError, RefusedError,
    UnavailableError (no space); the store is then as it was.
    """
    found = parse(reference)
    terms = understood(wishes)
    called = found.name if terms.name is None else terms.name
    with (
        naming(str(found)),
        store.failures_named(f"pulling {found}"),
        closing(RemoteFiles(access or Access(), found)) as files,
    ):
        return import_plan(
            store,
            files,
            plan_from_layout(files, None, terms.platform),
            [] if called is None else [called],
            terms,
        )

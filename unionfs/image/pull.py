"""An image from a registry, unpacked into the store while it is fetched."""

from __future__ import annotations

from contextlib import closing

from unionfs.image.importer import import_plan
from unionfs.image.layout import plan_from_layout
from unionfs.image.naming import naming
from unionfs.image.platform import host, parse_platform
from unionfs.image.progress import OneAtATime, Progress, Quiet
from unionfs.image.reference import parse
from unionfs.image.remote import RemoteFiles
from unionfs.image.skopeo import Access
from unionfs.store.names import image_name
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store
from unionfs.tarball.limits import Limits


def pull_image(
    store: Store,
    reference: str,
    *,
    access: Access | None = None,
    name: str | None = None,
    platform: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    keep_blobs: bool = True,
) -> ImageRecord:
    """Store the image *reference* (``reference.parse``) of a registry; return its record.

    Layers that are stored already are not fetched. The image is called *name*, or as *reference*
    calls it. *platform* and *keep_blobs* as for ``import_image``. Raises UsageError for bad words,
    NotInRegistryError, RegistryError, SkopeoMissingError, NoSuchImageError (not for this platform),
    CorruptError, RefusedError, UnavailableError (no space); the store is then as it was.
    """
    found = parse(reference)
    called = image_name(name) if name is not None else found.name
    wanted = host() if platform is None else parse_platform(platform)
    with (
        naming(str(found)),
        store.failures_named(f"pulling {found}"),
        closing(RemoteFiles(access or Access(), found)) as files,
    ):
        return import_plan(
            store,
            files,
            plan_from_layout(files, None, wanted),
            [] if called is None else [called],
            limits or Limits(),
            OneAtATime(progress or Quiet()),
            keep_blobs=keep_blobs,
        )

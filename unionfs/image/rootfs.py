"""A plain root filesystem as an image of one layer: from a directory or from a tar.

A directory takes the same way as any layer: it is written as a layer tar and applied, so that its
diffID is that of the tar which would be exported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from unionfs.digest import Digest
from unionfs.image.archive import open_plain
from unionfs.image.clock import timestamp
from unionfs.image.emitted import apply_emitted
from unionfs.image.files import Section
from unionfs.image.layers import applier
from unionfs.image.plan import Claim, new_image, read_config
from unionfs.image.platform import Platform
from unionfs.image.source import Source
from unionfs.image.wishes import Terms
from unionfs.ondisk.flavour import Flavour
from unionfs.store.layers import Making
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store
from unionfs.tarball.apply import Applied
from unionfs.tarball.emit import emit_tree

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def import_rootfs(
    store: Store,
    source: Source,
    names: Sequence[str],
    terms: Terms,
) -> ImageRecord:
    """Import the directory or tar *source* as an image of one layer under *names*.

    Raises OSError for what cannot be read, and as ``importer.import_image``.
    """
    reading = _reading(source, store.flavour, terms)
    with store.lease() as lease, reading as apply:
        layer = store.layers.ingest_unknown(apply, lambda diff_id: lease.add([diff_id]))
        terms.progress.layer_done(None, stored_before=False)
        data = _config(layer.diff_id, terms.platform, source)
        image = new_image(Digest.of(data), data, read_config(data), None)
        return store.images.add(image, names)


@contextmanager
def _reading(
    source: Source, flavour: Flavour, terms: Terms
) -> Iterator[Callable[[Making], Applied]]:
    """What writes the layer of *source* into a directory."""

    limits, progress = terms.limits, terms.progress

    def advanced(count: int) -> None:
        progress.advanced(None, count)

    if os.path.isdir(source.path):
        progress.layer_started(None, None)
        fd = os.open(source.path, _DIR)
        try:
            yield lambda making: apply_emitted(
                lambda out: emit_tree(fd, out, flavour=flavour), making, flavour, limits, advanced
            )
        finally:
            os.close(fd)
        return
    fd = open_plain(source.path)
    with Section(fd, 0, os.fstat(fd).st_size) as section:
        progress.layer_started(None, section.size)
        yield applier(section, Claim(), flavour, limits, advanced, keep=terms.keep_blobs)


def _config(diff_id: Digest, platform: Platform, source: Source) -> bytes:
    """Return the config document of an image whose only layer is *diff_id*."""
    created = timestamp()
    name = os.fsencode(os.path.basename(os.path.abspath(source.path))).decode(errors="replace")
    step = f"unionfs image import rootfs:{name}"
    document = {
        "created": created,
        "architecture": platform.architecture,
        **({"variant": platform.variant} if platform.variant else {}),
        "os": platform.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id)]},
        "history": [{"created": created, "created_by": step}],
    }
    return json.dumps(document, separators=(",", ":")).encode()

"""Importing an image: what it is, then its layers, then its record.

Nothing is visible in the store before the last step, and nothing stays of an import that fails:
the layers it stored are leased, and go with the lease. Of one that is killed the layers stay until
the next import, which takes over those it needs and collects the others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Unpack

from unionfs.image.docker import plan_from_docker
from unionfs.image.files import Files
from unionfs.image.layers import applier, copy_blob, is_compressed
from unionfs.image.layout import is_layout, plan_from_layout
from unionfs.image.naming import naming, source_names
from unionfs.image.plan import LayerSource, Plan, check_blob_size
from unionfs.image.platform import Platform
from unionfs.image.rootfs import import_rootfs
from unionfs.image.side_by_side import Stop, run_all
from unionfs.image.source import Kind, Source, opened, parse
from unionfs.image.wishes import Terms, Wishes, understood
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store


def import_image(
    store: Store,
    source: str,
    **wishes: Unpack[Wishes],
) -> ImageRecord:
    """Import the image that *source* names (``source.parse``) into *store*; return its record.

    Raises UsageError for bad words, NotFoundError, ConflictError for an ambiguous source,
    CorruptError, RefusedError, UnavailableError (no space); the store is then as it was.
    """
    terms = understood(wishes)
    names = None if terms.name is None else [terms.name]
    where = parse(source)
    with (
        naming(where.path),
        store.failures_named(f"importing {where}"),
        store.scratch() as scratch,
        opened(where, scratch, terms.limits) as (found, files),
    ):
        if files is None or found.kind is Kind.ROOTFS:
            given = source_names(found, ()) if names is None else names
            return import_rootfs(store, found, given, terms)
        plan = _plan(found, files, terms.platform)
        given = source_names(found, plan.names) if names is None else names
        return import_plan(store, files, plan, given, terms)


def import_plan(
    store: Store,
    files: Files,
    plan: Plan,
    names: Sequence[str],
    terms: Terms,
) -> ImageRecord:
    """Import what *plan* says from *files* under *names*, as ``import_image``.

    What is stored already is not read, unless *files* are local and its blob is to be kept.
    """
    return _Import(store, files, terms).run(plan, names)


def _plan(source: Source, files: Files, wanted: Platform) -> Plan:
    if source.kind is Kind.DOCKER_ARCHIVE and not is_layout(files):
        return plan_from_docker(files, source.reference, wanted)
    return plan_from_layout(files, source.reference, wanted)


class _Import:
    """One import from *files* into *store*."""

    def __init__(self, store: Store, files: Files, terms: Terms) -> None:
        self._keep_blobs = terms.keep_blobs
        self._store = store
        self._files = files
        self._limits = terms.limits
        self._progress = terms.progress
        self._stop = Stop(files.interrupt)

    def run(self, plan: Plan, names: Sequence[str]) -> ImageRecord:
        """Store the layers of *plan* that are not there, then the image."""
        with self._store.lease(layer.diff_id for layer in plan.layers):
            missing = self._missing(plan)
            for layer in missing:
                check_blob_size(self._files, layer)
            # The largest first: it decides how long all take.
            missing.sort(key=lambda layer: layer.size or 0, reverse=True)
            blobless = self._blobless(plan, missing)
            jobs = [partial(self._layer, layer) for layer in missing]
            run_all(jobs + [partial(self._blob, layer) for layer in blobless], self._stop)
            return self._store.images.add(plan.image, names)

    def _missing(self, plan: Plan) -> list[LayerSource]:
        """Return the layers to read, each once; report the others as done."""
        missing = []
        for layer in {layer.diff_id: layer for layer in plan.layers}.values():
            if self._store.layers.has(layer.diff_id):
                self._progress.layer_done(layer.diff_id, stored_before=True)
            else:
                missing.append(layer)
        return missing

    def _blobless(self, plan: Plan, missing: Sequence[LayerSource]) -> list[LayerSource]:
        """Return the layers that are stored and whose blobs, wanted or needed, are not kept."""
        found = []
        for layer in {layer.diff_id: layer for layer in plan.layers}.values():
            if layer not in missing and self._lacks_blob(layer):
                found.append(layer)
        return found

    def _lacks_blob(self, layer: LayerSource) -> bool:
        kept = [blob.digest for blob in self._store.blobs.of_layer(layer.diff_id)]
        if layer.digest in kept or (layer.digest is None and kept):
            return False
        if self._store.layers.recipe_path(layer.diff_id) is None:
            return not kept
        if not (self._keep_blobs and self._files.is_local):
            return False
        with self._files.open(layer.name) as section:
            return is_compressed(section)

    def _blob(self, layer: LayerSource) -> None:
        """Keep the blob of a stored layer."""
        self._stop.check()
        with self._store.scratch() as scratch, naming(f"layer {layer.diff_id}"):
            path = os.path.join(scratch, "blob")
            found = copy_blob(self._files.open(layer.name), layer.claim, path)
            self._store.blobs.keep(path, found.of(layer.diff_id))

    def _layer(self, layer: LayerSource) -> None:
        def advanced(count: int) -> None:
            self._stop.check()
            self._progress.advanced(layer.diff_id, count)

        with self._files.open(layer.name) as section:
            self._progress.layer_started(layer.diff_id, section.size)
            apply = applier(
                section,
                layer.claim,
                self._store.flavour,
                self._limits,
                advanced,
                keep=self._keep_blobs,
            )
            with naming(f"layer {layer.diff_id}"):
                self._store.layers.ingest(layer.diff_id, apply)
        if self._lacks_blob(layer):  # the layer was there already, from an import that was killed
            self._blob(layer)
        self._progress.layer_done(layer.diff_id, stored_before=False)

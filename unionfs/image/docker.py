"""What ``docker save`` writes: manifest.json (moby, image/tarexport) beside layers.

Since Docker 25 the same archive is an OCI layout too; that is then what is read (``layout``), for
its descriptors say more than manifest.json does.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from unionfs.digest import BadDigestError, Digest
from unionfs.image.documents import Fields, decode
from unionfs.image.files import Files, read_document
from unionfs.image.layout import AmbiguousSourceError
from unionfs.image.plan import (
    Config,
    LayerSource,
    NoSuchImageError,
    NotAnImageError,
    Plan,
    WrongBlobError,
    check_digest,
    new_image,
    read_config,
)
from unionfs.image.platform import Platform

_MANIFEST = b"manifest.json"
_BLOBS = "blobs/sha256"
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image of manifest.json: files of the archive, and names."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


def is_docker_archive(files: Files) -> bool:
    """Return whether *files* are those of a ``docker save`` archive."""
    return files.has(_MANIFEST)


def plan_from_docker(files: Files, reference: str | None, wanted: Platform) -> Plan:
    """Return the plan for the image *reference* of an archive, for the platform *wanted*.

    Without *reference* there must be only one image. Raises NotAnImageError, NoSuchImageError,
    AmbiguousSourceError, CorruptError, RefusedError.
    """
    entries = _entries(files)
    read = [(entry, *_config(files, entry)) for entry in _chosen(entries, reference)]
    fitting = [found for found in read if wanted.rank(found[3].platform) is not None]
    if not fitting:
        offered = ", ".join(ascii(str(found[3].platform))[1:-1] for found in read)
        raise NoSuchImageError(f"no image for {wanted} there; there is {offered}")
    if len({found[1] for found in fitting}) > 1:
        raise AmbiguousSourceError(f"several images there, say which: {_listed(entries)}")
    return _plan(*fitting[0])


def _entries(files: Files) -> Sequence[_Entry]:
    if not is_docker_archive(files):
        raise NotAnImageError("no manifest.json there: not a docker archive")
    document = decode(read_document(files, _MANIFEST), "manifest.json")
    wrapped = Fields({"images": document}, "manifest.json")
    return [
        _Entry(fields.text("Config"), fields.texts("Layers"), fields.texts("RepoTags"))
        for fields in wrapped.children("images")
    ]


def _chosen(entries: Sequence[_Entry], reference: str | None) -> Sequence[_Entry]:
    if not entries:
        raise NoSuchImageError("the archive has no image")
    if reference is None:
        return entries
    tagged = {reference, f"{reference}:latest"}
    chosen = [entry for entry in entries if tagged & set(_all_names(entry))]
    if not chosen:
        raise NoSuchImageError(f"no image {reference!r} there; there is {_listed(entries)}")
    return chosen


def _all_names(entry: _Entry) -> Sequence[str]:
    """Return the tags of an image, each also without its registry and path."""
    return (*entry.tags, *(tag.rpartition("/")[2] for tag in entry.tags))


def _listed(entries: Sequence[_Entry]) -> str:
    names = [name for entry in entries for name in (entry.tags or (entry.config,))]
    shown = ", ".join(ascii(name)[1:-1] for name in names[:_SHOWN])
    return shown + (", …" if len(names) > _SHOWN else "")


def _config(files: Files, entry: _Entry) -> tuple[Digest, bytes, Config]:
    """Return ID, document and content of an image's config, whose file name may be its digest."""
    data = read_document(files, entry.config.encode())
    named = _digest_in(posixpath.basename(entry.config).removesuffix(".json"))
    if named is not None:
        check_digest(data, named, "image config")
    return Digest.of(data), data, read_config(data)


def _plan(entry: _Entry, image_id: Digest, data: bytes, config: Config) -> Plan:
    if len(config.diff_ids) != len(entry.layers):
        raise WrongBlobError(
            f"image {image_id} has {len(entry.layers)} layers in manifest.json and "
            f"{len(config.diff_ids)} in its config"
        )
    layers = tuple(
        LayerSource(diff_id, name.encode(), _blob_digest(name), None)
        for diff_id, name in zip(config.diff_ids, entry.layers, strict=True)
    )
    return Plan(new_image(image_id, data, config, None), layers, entry.tags)


def _blob_digest(name: str) -> Digest | None:
    """Return the digest that a layer's name in the newer layout is; None in the older one."""
    return _digest_in(posixpath.basename(name)) if posixpath.dirname(name) == _BLOBS else None


def _digest_in(name: str) -> Digest | None:
    try:
        return Digest.parse(f"sha256:{name}")
    except BadDigestError:
        return None

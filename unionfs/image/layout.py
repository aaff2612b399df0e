"""OCI image layouts (image-spec image-layout.md): from an index to one image for one platform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unionfs.errors import ConflictError, RefusedError
from unionfs.image import manifest as manifests
from unionfs.image.documents import Descriptor, Fields, decode
from unionfs.image.files import Files, read_document
from unionfs.image.manifest import INDEXES, MANIFESTS, read_index, read_manifest
from unionfs.image.plan import NoSuchImageError, NotAnImageError, Plan, read_blob
from unionfs.image.platform import Platform

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
_ATTESTATION = "vnd.docker.reference.type"
_MAX_DEPTH = 4
_MAX_DOCUMENTS = 1000
_SHOWN = 12


class AmbiguousSourceError(ConflictError):
    """A source has several images, and nothing says which is wanted."""


class TooManyDocumentsError(RefusedError):
    """An index refers to more documents, or deeper, than any image needs."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A manifest for a platform, and the entry of index.json that led to it."""

    top: Descriptor
    manifest: Descriptor
    platform: Platform


def is_layout(files: Files) -> bool:
    """Return whether *files* are those of a layout."""
    return files.has(b"oci-layout") and files.has(b"index.json")


def plan_from_layout(files: Files, reference: str | None, wanted: Platform) -> Plan:
    """Return the plan for the image *reference* of a layout, for the platform *wanted*.

    Without *reference* there must be only one image. Raises NotAnImageError, NoSuchImageError,
    AmbiguousSourceError, CorruptError, RefusedError.
    """
    _check_version(files)
    entries = read_index(read_document(files, b"index.json"))
    chosen = _by_reference(entries, reference)
    best = _best(list(_Walk(files).manifests(chosen)), wanted)
    names = [name for entry in entries if entry.digest == best.top.digest for name in _names(entry)]
    return manifests.plan_of(files, read_manifest(files, best.manifest), names)


def _check_version(files: Files) -> None:
    if not is_layout(files):
        raise NotAnImageError("no oci-layout and index.json there: not an OCI image layout")
    marker = Fields(decode(read_document(files, b"oci-layout"), "oci-layout"), "oci-layout")
    version = marker.text("imageLayoutVersion")
    if version != "1.0.0":
        raise NotAnImageError(f"an OCI image layout of unknown version {version!r}")


def _names(entry: Descriptor) -> list[str]:
    """Return what an entry of index.json is called, the most telling first."""
    found = (entry.annotations.get(key) for key in (CONTAINERD_NAME, REF_NAME))
    return [name for name in found if name]


def _by_reference(entries: Sequence[Descriptor], reference: str | None) -> Sequence[Descriptor]:
    """Return the entries for *reference*; without one, all, if they are one image's."""
    if not entries:
        raise NoSuchImageError("the index has no image")
    if reference is not None:
        chosen = [entry for entry in entries if _answers_to(entry, reference)]
        if not chosen:
            raise NoSuchImageError(f"no image {reference!r} there; there is {_listed(entries)}")
        return chosen
    called = {name: entry.digest for entry in entries for name in _names(entry)[:1]}
    if len(set(called.values())) > 1:
        raise AmbiguousSourceError(f"several images there, say which: {_listed(entries)}")
    return entries


def _answers_to(entry: Descriptor, reference: str) -> bool:
    names = _names(entry)
    return (
        reference in names
        or str(entry.digest) == reference
        or any(name.endswith("/" + reference) for name in names)
    )


def _listed(entries: Sequence[Descriptor]) -> str:
    names = [(_names(entry) or [str(entry.digest)])[0] for entry in entries]
    shown = ", ".join(ascii(name)[1:-1] for name in dict.fromkeys(names[:_SHOWN]))
    return shown + (", …" if len(names) > _SHOWN else "")


class _Walk:
    """Walks nested indexes, each once, up to a depth and a count."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._seen: set[object] = set()
        self._read = 0

    def manifests(self, entries: Sequence[Descriptor]) -> Iterator[_Found]:
        """Yield the image manifests below *entries* with their platforms."""
        for top in entries:
            for found in self._below(top, 0):
                platform = self._platform(found)
                if platform is not None:
                    yield _Found(top, found, platform)

    def _below(self, entry: Descriptor, depth: int) -> Iterator[Descriptor]:
        if entry.digest in self._seen or _ATTESTATION in entry.annotations:
            return
        self._seen.add(entry.digest)
        if entry.media_type in MANIFESTS:
            yield entry
        elif entry.media_type in INDEXES:
            if depth == _MAX_DEPTH:
                raise TooManyDocumentsError(f"indexes nested deeper than {_MAX_DEPTH}")
            self._count()
            data = read_blob(self._files, entry, "image index")
            for below in read_index(data, entry.media_type):
                yield from self._below(below, depth + 1)
        elif depth == 0:
            raise NotAnImageError(f"{entry.digest} is no image but {entry.media_type!r}")

    def _platform(self, found: Descriptor) -> Platform | None:
        """Return what platform a manifest is for, from its config if its descriptor is silent."""
        fields = found.fields.child("platform")
        if fields is not None and fields.text("architecture"):
            platform = Platform(
                fields.text("os"), fields.text("architecture"), fields.text("variant")
            )
            return None if platform.os == "unknown" else platform
        self._count()
        manifest = read_manifest(self._files, found)
        if not manifests.is_image(manifest):
            return None
        return manifests.read_manifest_config(self._files, manifest)[1].platform

    def _count(self) -> None:
        self._read += 1
        if self._read > _MAX_DOCUMENTS:
            raise TooManyDocumentsError(f"an index with more than {_MAX_DOCUMENTS} documents")


def _best(found: Sequence[_Found], wanted: Platform) -> _Found:
    if not found:
        raise NotAnImageError("the index has no container image")
    ranked = [(wanted.rank(one.platform), one) for one in found]
    fitting = [(rank, one) for rank, one in ranked if rank is not None]
    if not fitting:
        offered = ", ".join(dict.fromkeys(ascii(str(one.platform))[1:-1] for one in found[:_SHOWN]))
        raise NoSuchImageError(f"no image for {wanted} there; there is {offered}")
    lowest = min(rank for rank, _ in fitting)
    best = [one for rank, one in fitting if rank == lowest]
    if len({one.top.digest for one in best}) > 1 and len({one.manifest.digest for one in best}) > 1:
        listed = _listed([one.top for one in best])
        raise AmbiguousSourceError(f"several images for {wanted} there, say which: {listed}")
    return best[0]

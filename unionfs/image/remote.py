"""An image in a registry as the files of a layout: fetched when they are read, and not before."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass

from unionfs.digest import Digest
from unionfs.errors import UnionfsError
from unionfs.image import skopeo
from unionfs.image.documents import Fields, decode, descriptor
from unionfs.image.files import Content, MissingFileError, Section, shown
from unionfs.image.manifest import OCI_INDEX, OCI_MANIFEST
from unionfs.image.plan import NotAnImageError, WrongBlobError, blob_name, check_digest
from unionfs.image.reference import Reference
from unionfs.image.skopeo import Access, Proxies, Proxy

_LAYOUT = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()


@dataclass(frozen=True, slots=True)
class _Blob:
    """A blob that a manifest names: its bytes, and the image that it can be had with."""

    digest: Digest
    size: int
    image: str


class RemoteFiles:
    """The image *reference* as the files of an OCI layout with one entry."""

    is_local = False

    def __init__(self, access: Access, reference: Reference) -> None:
        """Fetch the manifest or index. Raises NotInRegistryError, RegistryError, CorruptError,
        NotAnImageError for the oldest kind of manifest, SkopeoMissingError."""
        self._access = access
        self._reference = reference
        self._proxies = Proxies(access)
        self._manifests: dict[bytes, Digest] = {}
        self._blobs: dict[bytes, _Blob] = {}
        data = skopeo.manifest(access, reference.for_skopeo())
        digest = reference.digest or Digest.of(data)
        check_digest(data, digest, "manifest")
        self._documents = {b"oci-layout": _LAYOUT, b"index.json": _index(data, digest)}
        self._note(data, digest)

    def open(self, name: bytes) -> Content:
        """Return the file *name*, of which nothing has been fetched yet if it is a blob.

        Raises MissingFileError, NotInRegistryError, RegistryError.
        """
        if name in self._manifests and name not in self._documents:
            digest = self._manifests[name]
            data = skopeo.manifest(self._access, self._reference.for_skopeo(digest))
            self._note(data, digest)
        if name in self._documents:
            return _in_memory(self._documents[name])
        if name in self._blobs:
            return RemoteBlob(self._proxies, self._blobs[name])
        raise MissingFileError(f"{shown(name)} in {self._reference}: nothing refers to it")

    def has(self, name: bytes) -> bool:
        """Return whether something has that *name*."""
        return name in self._documents or name in self._manifests or name in self._blobs

    def interrupt(self) -> None:
        """Let no thread wait any longer for what it reads; it fails there."""
        self._proxies.interrupt()

    def close(self) -> None:
        """Let go of skopeo."""
        self._proxies.close()

    def _note(self, data: bytes, digest: Digest) -> None:
        """Remember the manifest or index *data*, and what it refers to."""
        self._documents[blob_name(digest)] = data
        fields = Fields(decode(data, "manifest"), "manifest")
        for entry in map(descriptor, fields.children("manifests")):
            self._manifests[blob_name(entry.digest)] = entry.digest
        config = fields.child("config")
        image = self._reference.for_skopeo(digest)
        for found in (*fields.children("layers"), *((config,) if config else ())):
            blob = descriptor(found)
            self._blobs[blob_name(blob.digest)] = _Blob(blob.digest, blob.size, image)


class RemoteBlob(Content):
    """A blob of a registry, fetched from its first read on."""

    def __init__(self, proxies: Proxies, blob: _Blob) -> None:
        super().__init__(blob.size)
        self._proxies = proxies
        self._blob = blob
        self._head = b""
        self._left = blob.size  # bytes that have not come yet
        self._proxy: Proxy | None = None
        self._fd = -1
        self._failure: UnionfsError | None = None  # why no more can be read
        self._lock = threading.Lock()  # held while reading: a descriptor in use is not closed

    def start(self, count: int) -> bytes:
        """Return the next *count* bytes, fewer at the end, without moving on. Raises as ``read``"""
        while len(self._head) < count and (data := self._fetch(count - len(self._head))):
            self._head += data
        return self._head[:count]

    def again(self) -> RemoteBlob:
        """Return the same blob, to be fetched once more."""
        return RemoteBlob(self._proxies, self._blob)

    def read(self, count: int | None = -1) -> bytes:
        """Return up to *count* bytes, none only at the end.

        Raises RegistryError, NotInRegistryError, WrongBlobError where it is longer than it should.
        """
        if count is None or count < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if self._head:
            found, self._head = self._head[:count], self._head[count:]
            return found
        return self._fetch(count)

    def close(self) -> None:
        """Stop fetching, if that has not ended."""
        if self._proxy is not None:
            self._proxy.interrupt()
            with self._lock:
                os.close(self._fd)
                self._proxies.drop(self._proxy)
                self._proxy = None
        super().close()

    def _fetch(self, count: int) -> bytes:
        if self._failure is not None:
            raise self._failure
        if not self._left:
            return b""
        if self._proxy is None:
            self._begin()
        with self._lock:
            data = os.read(self._fd, min(count, self._left))
            self._left -= len(data)
            if not data or not self._left:
                try:
                    self._end()
                except UnionfsError as error:
                    self._failure = error
                    raise
        return data

    def _begin(self) -> None:
        proxy = self._proxies.take()
        try:
            self._fd = proxy.blob(self._blob.image, self._blob.digest, self._blob.size)
        except BaseException:
            self._proxies.drop(proxy)
            raise
        self._proxy = proxy

    def _end(self) -> None:
        """Hear how it ended, and let the next blob have the proxy."""
        proxy = self._proxy
        assert proxy is not None
        if os.read(self._fd, 1):
            raise WrongBlobError(f"blob {self._blob.digest} is longer than {self.size} bytes")
        proxy.finish()
        if self._left:
            raise WrongBlobError(f"blob {self._blob.digest} is shorter than {self.size} bytes")
        os.close(self._fd)
        self._proxy = None
        self._proxies.give_back(proxy)


def _index(data: bytes, digest: Digest) -> bytes:
    """Return an index.json with the one entry for the manifest or index *data*."""
    fields = Fields(decode(data, "manifest"), "manifest")
    if fields.has("fsLayers"):
        raise NotAnImageError("the registry has it in Docker's schema 1 only, which is not read")
    guess = OCI_INDEX if fields.has("manifests") else OCI_MANIFEST
    entry = {
        "mediaType": fields.text("mediaType") or guess,
        "digest": str(digest),
        "size": len(data),
    }
    return json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()


def _in_memory(data: bytes) -> Section:
    fd = os.memfd_create("document")
    os.pwrite(fd, data, 0)
    return Section(fd, 0, len(data))

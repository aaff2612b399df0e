"""The bench's own files: the layers, the tar to unpack, and a directory for each run.

All of it is in the cache, beside the demo's image: real lower layers, plus one that holds a file
of 256 MB for the rows that read, write or copy up a lot.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator

from scripts.bench import towers
from scripts.bench.contenders import Stack
from scripts.bench.rows import BIG
from scripts.demo import image

_BIG_SIZE = 256 << 20


class Workshop:
    """The directories of one bench; *user_namespace* wants layers with ``user.overlay.*`` marks."""

    def __init__(self, user_namespace: bool) -> None:
        self.cache = os.path.join(image.CACHE, "bench")
        self.tar = os.path.join(self.cache, "files.tar")
        self.oci = image.layout()
        os.makedirs(self.cache, exist_ok=True)
        self._user_namespace = user_namespace
        if user_namespace:
            self.lowers = [_data(self.cache), *_user_layers(self.cache)]
        else:
            self.lowers = [_data(self.cache), *image.layers()]
        self._used: list[str] = []
        if not os.path.exists(self.tar):
            make_tar(self.tar)

    @contextlib.contextmanager
    def stack(
        self,
        kind: str = "",
        *,
        stored: bool = False,
        read_only: bool = False,
        passes: bool = False,
    ) -> Iterator[Stack]:
        """Give a mount its directories; what it wrote is deleted at the end of all.

        *kind* is one of ``towers``, "" the image's layers; *stored*: in a store as well;
        *read_only*: there is no upper; *passes*: ``Stack.passes``. Not deleted at once, because for
        minutes ext4 passes over the inodes of deleted files one by one (recently_deleted() in
        fs/ext4/ialloc.c), and who creates files next would pay for it.
        """
        top = tempfile.mkdtemp(dir=self.cache, prefix="run-")
        self._used.append(top)
        try:
            upper, work, merged = (os.path.join(top, name) for name in ("upper", "work", "merged"))
            for directory in (upper, work, merged):
                os.mkdir(directory, 0o755)
            cwd, lowers = self._layers(kind)
            store = self._store(kind) if stored else ""
            yield Stack(lowers, "" if read_only else upper, work, merged, cwd, store, passes)
        finally:
            empty = ["-type", "f", "-size", "+256k", "-exec", "truncate", "-s", "0", "{}", "+"]
            subprocess.run(["find", top, "-xdev", *empty], check=True)

    def _layers(self, kind: str) -> tuple[str | None, tuple[str, ...]]:
        if kind == towers.IMAGE:
            return None, tuple(self.lowers[1:])
        return towers.tower(self.cache, kind) if kind else (None, tuple(self.lowers))

    def _store(self, kind: str) -> str:
        return towers.stored(self.cache, kind, self.oci, user_namespace=self._user_namespace)

    def warm(self) -> None:
        """Have the big file in the page cache: who reads it first would read the disk."""
        with open(os.path.join(self.lowers[0], BIG), "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass

    def close(self) -> None:
        """Delete what the measurements left."""
        for top in self._used:
            subprocess.run(["rm", "-rf", "--one-file-system", top], check=True)
        self._used.clear()

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """Give a directory on the same disk as the layers; it is deleted afterwards."""
        top = tempfile.mkdtemp(dir=self.cache, prefix="run-")
        try:
            yield top
        finally:
            subprocess.run(["rm", "-rf", "--one-file-system", top], check=True)


def _data(cache: str) -> str:
    """Return the layer with the big file, which is random, so that nothing can compress it."""
    layer = os.path.join(cache, "data-layer")
    path = os.path.join(layer, BIG)
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".part", "wb") as file:
            for _ in range(_BIG_SIZE >> 20):
                file.write(os.urandom(1 << 20))
        os.rename(path + ".part", path)
    return layer


def make_tar(path: str, files: int = 3000) -> None:
    """Write a tar of *files* small files in 150 directories, like a package of sources."""
    chance = random.Random(3)
    with tarfile.open(path + ".part", "w") as tar:
        for number in range(files):
            entry = tarfile.TarInfo(f"package/dir-{number % 150}/file-{number}.txt")
            entry.size = chance.randrange(200, 8000)
            entry.mtime = 1_700_000_000 + number
            tar.addfile(entry, io.BytesIO(chance.randbytes(entry.size)))
    os.rename(path + ".part", path)


def _user_layers(cache: str) -> list[str]:
    """Return copies of the layers that speak ``user.overlay.*``, all that a user can mount."""
    top = os.path.join(cache, "user-layers")
    if not os.path.exists(top):
        part = top + ".part"
        shutil.rmtree(part, ignore_errors=True)
        os.mkdir(part)
        for layer in image.layers():
            subprocess.run(["cp", "-a", "--reflink=auto", layer, part], check=True)
            _translate_marks(os.path.join(part, os.path.basename(layer)))
        os.rename(part, top)
    return [os.path.join(top, os.path.basename(layer)) for layer in image.layers()]


def _translate_marks(layer: str) -> None:
    """Give every directory's opaque mark its other name; layers hold no other mark that counts."""
    for here, _, _ in os.walk(layer):
        if "trusted.overlay.opaque" in os.listxattr(here):
            os.setxattr(here, "user.overlay.opaque", b"y")
            os.removexattr(here, "trusted.overlay.opaque")

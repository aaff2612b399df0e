"""Stacks of many layers, and one of many files: made once, in the cache.

Every directory of a tower is in many of its layers, as after a hundred builds on top of each other.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from unionfs.image.writer import pack_layout
from unionfs.ondisk.flavour import Flavour

TALL, TALLER, WIDE = "100-layers", "400-layers", "100000-files"
IMAGE = "image"  # no tower, but the image's own layers, of which a store is made
_FOLDERS = 100
_FILES = 20_000
_WIDE = 100_000


def tower(cache: str, kind: str) -> tuple[str, tuple[str, ...]]:
    """Return the directory of the tower *kind* and its layers' names there, topmost first.

    The names are relative, because the kernel's mount(2) takes 4,096 bytes of options only.
    """
    top = os.path.join(cache, kind)
    if not os.path.exists(top):
        part = top + ".part"
        shutil.rmtree(part, ignore_errors=True)
        _MAKERS[kind](part)
        os.rename(part, top)
    return top, tuple(sorted(os.listdir(top), key=int))


@functools.cache
def stored(cache: str, kind: str, oci: str, *, user_namespace: bool) -> str:
    """Return a store of ours with the image ``tower``: the layers of *kind*, or those in *oci*.

    Made in a *user_namespace* it is another one: owners are in attributes there, as in any store
    of who is not the machine's root. One of an earlier run is repaired first: its index may be
    another version's, and mounts would do without.
    """
    store = os.path.join(cache, f"{kind}-user-store" if user_namespace else f"{kind}-store")
    if not os.path.exists(store):
        part = store + ".part"
        shutil.rmtree(part, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=cache) as layout:
            if kind != IMAGE:
                top, names = tower(cache, kind)
                bottommost_first = [os.path.join(top, name) for name in reversed(names)]
                pack_layout(layout, bottommost_first, flavour=Flavour.TRUSTED)
                oci = layout
            _ours(part, "image", "import", f"oci:{oci}", "--name", "tower")
        os.rename(part, store)
    else:
        _ours(store, "check", "--repair")
    return store


def _ours(store: str, *words: str) -> None:
    program = os.path.join(os.path.dirname(sys.executable), "unionfs")
    subprocess.run([program, "--root", store, *words], check=True, stdout=subprocess.DEVNULL)


def folders() -> list[str]:
    """Return the directories of a tower of layers that hold files."""
    return [f"d{number // 10}/e{number}" for number in range(_FOLDERS)]


def _tall(layers: int) -> Callable[[str], None]:
    def make(top: str) -> None:
        chance = random.Random(5)
        for layer in range(layers):
            for number in range(_FILES // layers):
                folder = os.path.join(top, str(layer), chance.choice(folders()))
                os.makedirs(folder, exist_ok=True)
                _write(os.path.join(folder, f"f{layer}-{number}"))

    return make


def _wide(top: str) -> None:
    for number in range(_WIDE):
        folder = os.path.join(top, "0", f"d{number // 1000}", f"e{number // 100 % 10}")
        os.makedirs(folder, exist_ok=True)
        _write(os.path.join(folder, f"file-{number}"))


def _write(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"some bytes")


_MAKERS = {TALL: _tall(100), TALLER: _tall(400), WIDE: _wide}

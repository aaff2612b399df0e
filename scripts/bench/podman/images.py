"""What the workload works on: an image with many small files, and a directory to build from."""

from __future__ import annotations

import os
import random
import sys
import tempfile

from scripts.bench.podman.steps import CONTEXT
from scripts.bench.workshop import make_tar
from scripts.demo import image
from unionfs.image.writer import pack_layout
from unionfs.ondisk.flavour import Flavour

_A_DIRECTORY = 100  # files
_RUN_CONFIG = {
    "Cmd": ["/bin/sh"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
}


def image_layout(files: int) -> str:
    """Return the OCI layout of an image with *files* files, made if the cache has it not.

    It is the demo's image, which is the least, with one more layer. Raises OSError,
    CalledProcessError, NoMirrorError.
    """
    layout = os.path.join(image.CACHE, "bench", f"podman-{files}")
    if os.path.exists(layout):
        return layout
    if not image.is_made():
        print("bench: making the demo's image first", file=sys.stderr)
        image.make()
    print(f"bench: making an image of {files} files", file=sys.stderr)
    os.makedirs(os.path.dirname(layout), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(layout)) as scratch:
        layers = image.layers()[::-1]
        layers.append(os.path.join(scratch, "layer"))
        _fill(layers[-1], files - sum(map(_count, layers[:-1])))
        packed = os.path.join(scratch, "layout")
        pack_layout(packed, layers, flavour=Flavour.TRUSTED, run_config=_RUN_CONFIG)
        os.rename(packed, layout)
    return layout


def make_context(place: str, files: int) -> None:
    """Make *place* a directory for ``podman build``: its file, a script, a tar of *files* files."""
    os.mkdir(place)
    for name, text in CONTEXT.items():
        with open(os.path.join(place, name), "x", encoding="utf-8") as file:
            file.write(text)
    make_tar(os.path.join(place, "files.tar"), files)


def _count(layer: str) -> int:
    return sum(len(names) for _, _, names in os.walk(layer))


def _fill(layer: str, files: int) -> None:
    """Make the directory *layer*, with *files* files of up to 8 KB, a hundred a directory."""
    os.mkdir(layer, 0o755)
    chance = random.Random(11)
    for number in range(files):
        folder = os.path.join(layer, "many", f"d{number // 5000}", f"e{number // _A_DIRECTORY}")
        if number % _A_DIRECTORY == 0:
            os.makedirs(folder)
        with open(os.path.join(folder, f"file-{number}"), "xb") as file:
            file.write(chance.randbytes(chance.randrange(8000)))

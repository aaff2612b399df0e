"""Stores for tests, filled without image documents."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.images import config, sha256, to_json
from tests.support.layers import FLAVOUR
from unionfs.digest import Digest
from unionfs.store.layers import Making
from unionfs.store.records import ImageRecord, NewImage
from unionfs.store.store import Store
from unionfs.tarball.apply import Applied, apply_layer
from unionfs.tarball.limits import Limits

REPO = Path(__file__).parents[2]


def applying(data: bytes) -> Callable[[Making], Applied]:
    """What ``Layers.ingest`` takes, for the tar *data*."""
    return lambda making: apply_layer(
        io.BytesIO(data),
        making.tree,
        flavour=FLAVOUR,
        limits=Limits(),
        recipe=making.recipe,
    )


def diff_id(data: bytes) -> Digest:
    return Digest.parse(sha256(data))


def ingest(store: Store, *tars: bytes) -> list[Digest]:
    """Store layers that nothing refers to yet."""
    return [store.layers.ingest(diff_id(data), applying(data)).diff_id for data in tars]


def new_image(tars: Sequence[bytes], **fields) -> NewImage:
    document = to_json(config(tars, **fields))
    return NewImage(
        id=Digest.of(document),
        config=document,
        diff_ids=tuple(diff_id(data) for data in tars),
        architecture="amd64",
        os="linux",
    )


def add_image(store: Store, *tars: bytes, names: Sequence[str] = (), **fields) -> ImageRecord:
    """Store an image of the layers *tars*, bottommost first."""
    with store.lease([diff_id(data) for data in tars]):
        ingest(store, *tars)
        return store.images.add(new_image(tars, **fields), names)


def everything(root: Path) -> set[str]:
    """Every path in a store but those of its database, as what an operation may leave behind."""
    found = {str(path.relative_to(root)) for path in root.rglob("*")}
    return {path for path in found if not path.startswith("store.db")}


def python(program: str, *words: str | Path) -> subprocess.Popen[bytes]:
    """Start another process that runs *program* with ``sys.argv[1:]`` being *words*."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> bytes:
    """Wait for *process*, which must succeed; return its output."""
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    return out


def kill_at_line(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Kill *process* with SIGKILL as soon as it has printed *line*."""
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line, process.communicate()[1].decode()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)

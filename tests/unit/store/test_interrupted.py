"""A signal that ends a command leaves no lock behind that would keep out what cleans up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.support.examples import FULL
from tests.support.stores import add_image
from tests.support.tars import dir_, file, tar
from unionfs.store import database
from unionfs.store.store import Store
from unionfs.syscalls.interrupt import Interrupted, interruptible, let_go

# A file that was opened an instruction ago is closed with the exception.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

_TRACED = (os.path.dirname(database.__file__), contextlib.__file__)
_EVERY = 7 if FULL else 61  # instructions of Python's


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)


@pytest.fixture
def root(tmp_path: Path) -> str:
    path = str(tmp_path / "store")
    with Store.open(path) as store:
        image = add_image(store, tar(dir_("./"), file("a")))
        for name in ("one", "two", "three"):
            store.containers.create(image, name)
    return path


def _looking(root: str) -> None:
    with Store.open(root) as store:
        store.containers.list()
        store.images.list()
        store.images.stack(store.containers.resolve("two").image_id)


def _changing(root: str) -> None:
    with Store.open(root) as store:
        (image,) = store.images.list()
        store.images.tag(image.id, "other")
        store.containers.create(image, "four")


def _collecting(root: str) -> None:
    with Store.open(root) as store, store.lease():
        pass


@pytest.mark.parametrize("work", [_looking, _changing, _collecting])
def test_at_every_instruction(root: str, work: Callable[[str], None]) -> None:
    steps = _EVERY
    while True:
        try:
            with interruptible(), _signalled(steps):
                work(root)
        except Interrupted as interruption:
            let_go(interruption)
            _clean_up(root)  # with a traceback that keeps what was at work
        else:
            break
        steps += _EVERY
    assert steps > 10 * _EVERY


def _clean_up(root: str) -> None:
    with Store.open(root) as store:
        found = {container.name: container.id for container in store.containers.list()}
        assert found.keys() - {"four"} == {"one", "two", "three"}
        (image,) = store.images.list()
        store.images.tag(image.id, "still")  # somebody's lock would be in the way
        if "four" in found:
            store.containers.remove(found["four"])


@contextmanager
def _signalled(step: int) -> Iterator[None]:
    """Send SIGTERM at the block's *step*-th instruction that is the store's or a ``with``'s."""
    left = step

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(_TRACED):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)

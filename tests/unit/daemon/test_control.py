"""What a daemon does for who asks through its socket, and what when they go away in the middle."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from unionfs.daemon.client import CannotGoOnError, FrozenError, frozen
from unionfs.daemon.control import listening
from unionfs.errors import RefusedError
from unionfs.options import LowerName, MountConfig

trio = pytest.importorskip("trio")

STACK = MountConfig((b"/\xff", b"/b"), b"/up", b"/work", lower_names=(LowerName(1, "sha256:1"),))


class Subject:
    """A mount that only notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.error: Exception | None = None
        self._prepared = False

    async def freeze(self) -> None:
        self.told.append("freeze")

    def thaw(self) -> None:
        self.told.append("thaw")

    def prepare(self, stack: MountConfig) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(stack)
        self._prepared = True

    def is_prepared(self) -> bool:
        return self._prepared

    def stay(self) -> None:
        if self._prepared:
            self.told.append("stay")
        self._prepared = False

    def go_on(self) -> None:
        self.told.append("go on")
        self._prepared = False


def converse(folder: Path, subject: Subject, client: Callable[[bytes], None]) -> list[object]:
    """Run *client*, with the socket's path, beside the daemon's side; return what it heard."""
    path = os.fsencode(folder / "control")

    async def both() -> None:
        async with listening(path, subject):
            await trio.to_thread.run_sync(client, path)
            with trio.fail_after(20):
                while subject.told and subject.told[-1] != "thaw":
                    await trio.sleep(0.01)

    trio.run(both)
    return subject.told


def test_it_goes_on(tmp_path: Path) -> None:
    offered, taken = tmp_path / "offered", tmp_path / "taken"
    offered.write_text("x")

    def client(path: bytes) -> None:
        with frozen(path) as mount:
            mount.prepare(STACK)
            mount.go_on(str(offered), str(taken))
            with pytest.raises(CannotGoOnError):  # once
                mount.go_on(str(taken), str(offered))
            mount.thaw()

    assert converse(tmp_path, Subject(), client) == ["freeze", STACK, "go on", "thaw"]
    assert taken.read_text() == "x"
    assert not offered.exists()


def test_it_stays_where_somebody_else_has_decided(tmp_path: Path) -> None:
    def client(path: bytes) -> None:
        with frozen(path) as mount:
            mount.prepare(STACK)
            with pytest.raises(CannotGoOnError, match="given up"):
                mount.go_on(str(tmp_path / "gone"), str(tmp_path / "taken"))

    assert converse(tmp_path, Subject(), client) == ["freeze", STACK, "stay", "thaw"]


def test_it_stays_where_who_asked_is_gone(tmp_path: Path) -> None:
    def client(path: bytes) -> None:
        with frozen(path) as mount:
            mount.prepare(STACK)

    assert converse(tmp_path, Subject(), client) == ["freeze", STACK, "stay", "thaw"]


@pytest.mark.parametrize(
    "error", [RefusedError("why"), OSError(2, "why"), ZeroDivisionError("a bug")]
)
def test_it_says_why_not(tmp_path: Path, error: Exception) -> None:
    subject = Subject()
    subject.error = error

    def client(path: bytes) -> None:
        with frozen(path) as mount:
            wanted = "given up" if isinstance(error, ZeroDivisionError) else "why"
            with pytest.raises(CannotGoOnError, match=wanted):
                mount.prepare(STACK)
        with frozen(path) as mount, pytest.raises(CannotGoOnError, match="no such request now"):
            mount.go_on("a", "b")

    assert converse(tmp_path, subject, client) == ["freeze", "thaw"] * 2


def test_another_waits(tmp_path: Path) -> None:
    def client(path: bytes) -> None:
        with frozen(path), pytest.raises(FrozenError), frozen(path, 0.1):
            pass

    assert converse(tmp_path, Subject(), client)[0] == "freeze"

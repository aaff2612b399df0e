"""A container that becomes one of another image: wholly, wherever that is cut short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stores import add_image
from tests.support.tars import dir_, file, tar
from unionfs.errors import ConflictError
from unionfs.store import containers as module
from unionfs.store.images import ImageInUseError
from unionfs.store.scratch import Scratch
from unionfs.store.store import Store

ONE = tar(dir_("./", mode=0o711), file("a", b"1"))
TWO = tar(dir_("./", mode=0o1755), file("b", b"2"))


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def test_the_upper_is_empty_and_looks_as_the_new_image(store: Store):
    one, two = add_image(store, ONE), add_image(store, ONE, TWO)
    container = store.containers.create(one, "c")
    home = Path(store.containers.path(container.id))
    (home / "upper/changed").write_text("x")
    (home / "work/index").mkdir()
    store.containers.rebase(container, two)
    assert store.containers.resolve("c").image_id == two.id
    assert sorted(os.listdir(home)) == ["merged", "upper", "work"]
    assert os.listdir(home / "upper") == os.listdir(home / "work") == []
    assert (home / "upper").stat().st_mode & 0o7777 == 0o1755
    store.images.remove([one.id])


def test_cut_short_anywhere_it_is_one_or_the_other(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Every step of it in turn is the last; looking the container up makes it whole."""
    one, two = add_image(store, ONE), add_image(store, ONE, TWO)
    seen = set()
    for step in range(30):
        container = store.containers.create(one, f"c{step}")
        home = Path(store.containers.path(container.id))
        (home / "upper/changed").write_text("x")
        left = step

        def counted(function):
            def call(*args, **kwargs):
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for owner, name in (
                (Scratch, "discard"),
                (os, "rename"),
                (module, "publish_directory"),
                (module, "fsync_dir"),
                (module, "write_file"),
            ):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            try:
                store.containers.rebase(container, two)
            except Killed:
                pass
            else:
                break
        found = store.containers.resolve(container.id)
        seen.add(found.image_id)
        assert sorted(os.listdir(home)) == ["merged", "upper", "work"], step
        changed = os.listdir(home / "upper")
        assert changed == (["changed"] if found.image_id == one.id else []), step
    else:
        raise AssertionError("it has more steps than that")
    assert seen == {one.id, two.id}


class Mount:
    """A mounted container's daemon, as the store sees it; *steps* are what is called."""

    def __init__(self, *, fails: str = "") -> None:
        self.steps: list[str] = []
        self._fails = fails

    def prepare(self, upper: str, work: str) -> None:
        self._step("prepare")
        assert os.listdir(upper) == os.listdir(work) == []

    def go_on(self, offered: str, taken: str) -> None:
        self._step("go_on")
        os.rename(offered, taken)
        self._step("gone")

    def thaw(self) -> None:
        self._step("thaw")

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self._fails:
            raise ConflictError("it cannot")


def test_a_mount_that_does_not_go_on(store: Store):
    one, two = add_image(store, ONE), add_image(store, ONE, TWO)
    for fails in ("prepare", "go_on"):
        container = store.containers.create(one)
        home = Path(store.containers.path(container.id))
        (home / "upper/changed").write_text("x")
        with pytest.raises(ConflictError):
            store.containers.rebase(container, two, Mount(fails=fails))
        assert store.containers.resolve(container.id).image_id == one.id
        assert sorted(os.listdir(home)) == ["merged", "upper", "work"]
        assert os.listdir(home / "upper") == ["changed"]


def test_a_mount_that_went_on_and_then_died(store: Store):
    one, two = add_image(store, ONE), add_image(store, ONE, TWO)
    container = store.containers.create(one)
    mount = Mount(fails="gone")
    store.containers.rebase(container, two, mount)
    assert mount.steps == ["prepare", "go_on", "gone", "thaw"]
    assert store.containers.resolve(container.id).image_id == two.id


REBASE = """
import os, signal, sys
from unionfs.store.store import Store

class Mount:
    def prepare(self, upper, work): pass
    def thaw(self): pass
    def go_on(self, offered, taken):
        if sys.argv[4] == "after":
            os.rename(offered, taken)
        os.kill(os.getpid(), signal.SIGKILL)

with Store.open(sys.argv[1]) as store:
    container, image = store.containers.resolve(sys.argv[2]), store.images.resolve(sys.argv[3])
    store.containers.rebase(container, image, Mount())
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_when_the_mount_decides(store: Store, when: str):
    """Until the row says so, the image that a mount went on to does not go."""
    one, two = add_image(store, ONE), add_image(store, ONE, TWO)
    container = store.containers.create(one, "c")
    home = Path(store.containers.path(container.id))
    (home / "upper/changed").write_text("x")
    words = [sys.executable, "-c", REBASE, store.root, container.id, str(two.id), when]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    if when == "after":
        with pytest.raises(ImageInUseError, match="used by container c"):
            store.images.remove([two.id])
    found = store.containers.resolve("c")
    assert found.image_id == (two.id if when == "after" else one.id)
    assert os.listdir(home / "upper") == ([] if when == "after" else ["changed"])
    assert sorted(os.listdir(home)) == ["merged", "upper", "work"]
    store.images.remove([one.id if when == "after" else two.id])

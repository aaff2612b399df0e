"""A container that becomes one of another image: wholly, wherever that is cut short."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.stores import add_image
from tests.support.tars import dir_, file, tar
from unionfs.store import containers as module
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

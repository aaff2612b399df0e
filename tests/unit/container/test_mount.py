"""What ``mount -o`` may ask for, planned without mounting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.container.mount import Plan, Wish, plan_image
from unionfs.digest import Digest
from unionfs.errors import UsageError
from unionfs.store.records import NewImage
from unionfs.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store")) as store:
        config = b'{"rootfs": {"type": "layers", "diff_ids": []}}'
        store.images.add(NewImage(Digest.of(config), config, (), "amd64", "linux"), ["a"])
        yield store


def _plan(store: Store, *options: str) -> Plan:
    return plan_image(store, store.images.resolve("a"), b"/target", Wish(options))


@pytest.mark.parametrize("option", ["dev", "suid"])
def test_what_only_root_can_have_is_not_called_unknown(
    store: Store, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert _plan(store, "nosuid", option).config.ignored == ()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match=f"^-o {option}: only root's mounts can have this$"):
        _plan(store, "ro", option)


@pytest.mark.parametrize("uid", [0, 1000])
def test_an_unknown_option_says_where_the_known_ones_are(
    store: Store, uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(UsageError, match=r"^-o bogus=1: unknown option \(see: unionfs mount --he"):
        _plan(store, "ro,bogus=1")

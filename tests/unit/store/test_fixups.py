"""Directories that a layer uses without describing them keep what the layers below say."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.support.stores import add_image, diff_id
from tests.support.tars import dir_, file, opaque, symlink, tar, whiteout
from unionfs.store.layers import MissingLayerError
from unionfs.store.store import Store

BASE = tar(
    dir_("./", mode=0o711, mtime=100),
    dir_("usr/", mode=0o750, mtime=200),
    dir_("usr/lib/", mode=0o701, mtime=300, xattrs={"user.note": b"base"}),
    file("usr/lib/a", b"a"),
)
IMPLICIT = tar(file("usr/lib/b", b"b"))


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def shown(store: Store, path: str, *tars: bytes) -> tuple[int, float]:
    """Mode and time of the topmost directory at *path* in an image of *tars*."""
    image = add_image(store, *tars)
    tops = [os.path.join(layer, path) for layer in store.images.stack(image.id)]
    st = os.lstat(next(top for top in tops if os.path.lexists(top)))
    return stat.S_IMODE(st.st_mode), st.st_mtime


def test_directories_that_are_not_described_show_what_is_below(store: Store):
    image = add_image(store, BASE, IMPLICIT)
    fixup, *layers = store.images.stack(image.id)
    assert layers == [store.layers.path(diff_id(one)) for one in (IMPLICIT, BASE)]
    found = sorted(str(path.relative_to(fixup)) for path in Path(fixup).rglob("*"))
    assert found == ["usr", "usr/lib"]
    assert shown(store, "", BASE, IMPLICIT) == (0o711, 100)
    assert shown(store, "usr", BASE, IMPLICIT) == (0o750, 200)
    assert shown(store, "usr/lib", BASE, IMPLICIT) == (0o701, 300)
    assert os.getxattr(os.path.join(fixup, "usr/lib"), "user.note") == b"base"
    container = store.containers.create(image)
    upper = os.stat(os.path.join(store.containers.path(container.id), "upper"))
    assert (stat.S_IMODE(upper.st_mode), upper.st_mtime) == (0o711, 100)


def test_the_layer_itself_is_the_same_for_every_image(store: Store):
    other = tar(dir_("./"), dir_("usr/", mode=0o700, mtime=7), dir_("usr/lib/", mode=0o777))
    assert shown(store, "usr", BASE, IMPLICIT) == (0o750, 200)
    assert shown(store, "usr", other, IMPLICIT) == (0o700, 7)
    alone = add_image(store, IMPLICIT)
    assert store.images.stack(alone.id) == [store.layers.path(diff_id(IMPLICIT))]
    assert stat.S_IMODE(os.stat(store.layers.path(diff_id(IMPLICIT)) + "/usr").st_mode) == 0o755


def test_an_image_that_needs_none_has_none(store: Store):
    described = tar(dir_("./"), dir_("usr/"), dir_("usr/lib/"), file("usr/lib/b"))
    image = add_image(store, BASE, described)
    assert len(store.images.stack(image.id)) == 2
    assert os.listdir(Path(store.root) / "fixups" / "sha256") == []


def test_the_topmost_description_counts(store: Store):
    middle = tar(dir_("./"), dir_("usr/", mode=0o555, mtime=50))
    assert shown(store, "usr", BASE, middle, IMPLICIT) == (0o555, 50)
    assert shown(store, "usr/lib", BASE, middle, IMPLICIT) == (0o701, 300)
    assert shown(store, "usr", BASE, IMPLICIT, middle) == (0o555, 50)


@pytest.mark.parametrize(
    "hiding",
    [
        tar(dir_("./"), whiteout("usr")),
        tar(dir_("./"), file("usr")),
        tar(dir_("./"), symlink("usr", "lib")),
        tar(opaque(""), file("x")),
    ],
    ids=["whiteout", "file", "link", "opaque root"],
)
def test_a_directory_that_is_hidden_in_between_lends_nothing(store: Store, hiding: bytes):
    assert shown(store, "usr", BASE, hiding, IMPLICIT) == (0o755, 0)
    assert shown(store, "usr/lib", BASE, hiding, IMPLICIT) == (0o755, 0)


def test_an_opaque_parent_hides_what_is_below_it(store: Store):
    hiding = tar(dir_("./"), dir_("usr/", mode=0o770, mtime=9), opaque("usr"))
    assert shown(store, "usr", BASE, hiding, IMPLICIT) == (0o770, 9)
    assert shown(store, "usr/lib", BASE, hiding, IMPLICIT) == (0o755, 0)


def test_an_opaque_directory_is_still_the_same_directory(store: Store):
    assert shown(store, "usr/lib", BASE, tar(opaque("usr/lib"))) == (0o701, 300)
    assert shown(store, "usr", BASE, tar(opaque("usr"))) == (0o750, 200)


def test_the_layer_that_replaces_a_directory_describes_nothing_of_the_old_one(store: Store):
    replacing = tar(whiteout("usr"), file("usr/lib/b", b"new"))
    assert shown(store, "usr", BASE, replacing) == (0o755, 0)


def test_equal_chains_share_their_fixup_and_the_last_image_takes_it_along(store: Store):
    one, two = add_image(store, BASE, IMPLICIT), add_image(store, BASE, IMPLICIT, author="x")
    assert store.images.stack(one.id) == store.images.stack(two.id)
    fixups = Path(store.root) / "fixups" / "sha256"
    store.images.remove([one.id])
    assert os.listdir(fixups) == [two.chain_id.hex]
    store.images.remove([two.id])
    assert os.listdir(fixups) == []


def test_a_missing_fixup_is_named(store: Store):
    image = add_image(store, BASE, IMPLICIT)
    fixup = Path(store.images.stack(image.id)[0])
    fixup.rename(fixup.parent / "gone")
    with pytest.raises(MissingLayerError, match=f"{image.chain_id}.*{fixup}"):
        store.images.stack(image.id)

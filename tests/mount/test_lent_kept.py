"""Directories that the extension tells of where owners, modes and types are kept in attributes.

As in a store of somebody who is not the machine's root. (tests/mount/test_lent.py runs over such
layers as well.)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from tests.mount.test_lent import walk
from tests.support import trees
from tests.support.extension import by_python, stats
from tests.support.files import read, refused
from tests.support.kept import keep_owners
from tests.support.mounts import OVERRIDE
from tests.support.stacks import Dir, Fifo, File, Layers, Link, Symlink, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

KEPT_CAPABILITY = "user.containers.override_security.capability"
LONG = b"/".join([b"x" * 255] * 15) + b"/" + b"y" * 255  # 4,095 bytes
LAYERS = [
    [
        *(
            File(b"d/%d" % mode, b"%o" % mode, mode=mode, uid=7, gid=8)
            for mode in (0, 0o200, 0o644)
        ),
        *(File(b"d/run", b"#!", mode=0o6755, uid=9), File(b"d/noted", xattrs=(("user.n", b"1"),))),
        *(Symlink(b"d/link", b"run"), Symlink(b"d/long", LONG), Fifo(b"d/pipe", mode=0o606)),
        *(File(b"d/twice", b"two names", uid=5), Link(b"d/again", b"d/twice")),
        *(Dir(b"d/closed", 0o1700, uid=7, gid=9), File(b"d/closed/x", b"x", uid=7)),
    ],
    [File(b"d/over", b"over", mode=0o604, gid=6), File(b"top")],
]


@pytest.fixture
def layers(scratch: bytes) -> Layers:
    return build_stack(scratch + b"/s", LAYERS).read_only()


def test_it_is_shown_as_what_it_stands_for(union: Callable, layers: Layers) -> None:
    expected = walk(union(layers).root)
    keep_owners(layers)
    assert OVERRIDE in os.listxattr(layers.lowers[-1] + b"/d/link", follow_symlinks=False)
    root = union(layers, indexed=True).root
    for when in ("lent", "known"):
        trees.assert_same(expected, walk(root), ("as files have it", when))
    assert stats(root)["unforeseen_errors"] == 0


@pytest.mark.default_mode
def test_a_look_at_it_needs_no_python(union: Callable, layers: Layers) -> None:
    keep_owners(layers)
    root = union(layers, indexed=True).root
    os.listdir(root)  # the first question of each kind is Python's: whether to ask
    os.lstat(root + b"/d")

    def work() -> None:
        assert {b"link", b"run", b"over", b"closed"} < set(os.listdir(root + b"/d"))
        st = os.lstat(root + b"/d/run")
        assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o6755, 9, 0)
        assert (os.readlink(root + b"/d/link"), os.readlink(root + b"/d/long")) == (b"run", LONG)
        assert os.lstat(root + b"/d/long").st_size == len(LONG)
        assert read(root + b"/d/over").startswith(b"over")
        assert os.listdir(root + b"/d/closed") == [b"x"]
        assert os.listxattr(root + b"/d/over") == []
        for name in ("security.capability", "user.n", "system.posix_acl_access"):
            with refused(errno.ENODATA):
                os.getxattr(root + b"/d/run", name)

    assert by_python(root, work) == 0


def test_its_attributes_have_their_own_names(union: Callable, layers: Layers) -> None:
    keep_owners(layers)
    at = layers.lowers[-1] + b"/d/run"
    os.setxattr(at, KEPT_CAPABILITY, bytes.fromhex("0100000200200000") + bytes(12))
    root, plain = (union(layers, indexed=indexed).root for indexed in (True, False))
    names = os.listxattr(plain + b"/d/run")
    assert names == ["security.capability"] == os.listxattr(root + b"/d/run")
    found = [os.getxattr(each + b"/d/run", names[0]) for each in (plain, root)]
    assert found[0] == found[1] and len(found[0]) >= 20
    assert os.listxattr(root + b"/d/noted") == ["user.n"]


def test_what_is_no_longer_what_it_was(union: Callable, layers: Layers) -> None:
    """Behind the mount's back: a link's stand-in is no file, or is another one."""
    keep_owners(layers)
    root = union(layers, indexed=True).root
    os.lstat(root + b"/d/link")
    at = layers.lowers[-1] + b"/d/link"
    os.unlink(at)
    os.mkfifo(at)  # opening it must not wait
    with pytest.raises(OSError):
        os.readlink(root + b"/d/link")
    assert os.listdir(root + b"/d/closed") == [b"x"]


@pytest.mark.default_mode
def test_without_an_index_it_is_pythons(union: Callable, layers: Layers) -> None:
    """As the layers of an engine are, which has none; stats says why."""
    keep_owners(layers)
    root = union(layers).root
    modes = {one["mode"]: (one["is"], one["because"]) for one in stats(root)["modes"]}
    answered, because = modes["unchanged directories"]
    assert answered == "answered by Python" and "no merged index tells of them" in because
    assert modes["data"] == ("cached", "data=passthrough was not asked for")
    assert os.lstat(root + b"/d/run").st_uid == 9

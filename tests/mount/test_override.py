"""The same with owners, modes and types in an attribute, as fuse-overlayfs keeps them.

Every test of these modules again, with ``xattr_permissions=2``: the filesystem below then knows
nothing of what is shown.
"""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.mount.test_callers import *  # noqa: F403
from tests.mount.test_links import *  # noqa: F403
from tests.support.examples import FULL
from tests.support.files import read, refused
from tests.support.mounts import OVERRIDE
from tests.support.stacks import File, build_stack

if FULL:
    from tests.mount.test_coherence import *  # noqa: F403
    from tests.mount.test_directories import *  # noqa: F403

# The kernel knows nothing of the attribute, and its tree is another.
for _name, _test in list(globals().items()):
    if any(mark.name == "needs_kernel_overlay" for mark in getattr(_test, "pytestmark", ())):
        del globals()[_name]

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture(autouse=True)
def kept_in_an_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the option to every mount that this module's tests make."""
    monkeypatch.setenv("UNIONFS_TEST_OPTIONS", "xattr_permissions=2")


def test_what_another_program_left_as_it_is(scratch, union):
    """Links and special files take no such attribute: they are changed themselves."""
    layers = build_stack(scratch + b"/s", [[File(b"below")]])
    os.mkfifo(layers.upper + b"/pipe", 0o600)
    os.symlink(b"below", layers.upper + b"/link")
    mounted = union(layers)
    os.chmod(mounted.root + b"/pipe", 0o640)
    os.chown(mounted.root + b"/pipe", 1, 2)
    os.lchown(mounted.root + b"/link", 3, 4)
    for root in (mounted.root, layers.upper):
        st = os.lstat(root + b"/pipe")
        assert (st.st_mode, st.st_uid, st.st_gid) == (stat.S_IFIFO | 0o640, 1, 2)
        assert (os.lstat(root + b"/link").st_uid, os.readlink(root + b"/link")) == (3, b"below")


def test_what_the_disk_has_of_it(scratch, union):
    """The format of containers/storage, and nothing in it that a user of the mount could say."""
    layers = build_stack(scratch + b"/s", [[File(b"low", mode=0o640, uid=7, gid=8)]])
    root = union(layers).root
    os.symlink(b"to", root + b"/link")
    os.mkfifo(root + b"/pipe", 0o604)
    os.mknod(root + b"/disk", stat.S_IFBLK | 0o660, os.makedev(8, 1))
    os.chmod(root + b"/low", 0o4755)
    for name, value in (
        (b"link", b"0:0:0777:symlink"),
        (b"pipe", b"0:0:0604:pipe"),
        (b"disk", b"0:0:0640:block-8-1"),
        (b"low", b"7:8:04755:file"),
    ):
        at = layers.upper + b"/" + name
        assert os.getxattr(at, OVERRIDE) == value
        assert stat.S_ISREG(os.lstat(at).st_mode)
        assert OVERRIDE not in os.listxattr(root + b"/" + name, follow_symlinks=False)
    assert read(layers.upper + b"/link") == b"to"
    for call in (
        lambda: os.setxattr(root + b"/low", OVERRIDE, b"0:0:0777:file"),
        lambda: os.setxattr(root + b"/low", "user.containers.override_security.capability", b""),
    ):
        with refused(errno.EPERM):
            call()

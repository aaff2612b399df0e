"""Mounts that were asked for fewer attributes: noacl, noxattrs, static_nlink, context."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from tests.support.files import as_user, read, refused, write
from tests.support.stacks import Dir, File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

ACCESS = "system.posix_acl_access"
NOT_FOR_USER = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHi", *entry)
    for entry in [(1, 6, -1), (2, 0, 1000), (4, 4, -1), (16, 4, -1), (32, 4, -1)]
)
PROGRAMS = [None, "fuse-overlayfs"]


@pytest.fixture
def layers(scratch):
    acl = (("user.mine", b"1"), (ACCESS, NOT_FOR_USER))
    return build_stack(
        scratch + b"/s", [[Dir(b"dir"), Dir(b"dir/sub"), File(b"dir/file", mode=0o644, xattrs=acl)]]
    )


def test_acls_count_for_nothing(union, layers):
    with_acls = union(layers, options=[b"ro"])
    assert as_user(lambda: read(with_acls.root + b"/dir/file")) == errno.EACCES
    with_acls.unmount()
    path = union(layers, options=[b"noacl"]).root + b"/dir/file"
    assert as_user(lambda: read(path)) == 0
    for call in (
        lambda: os.getxattr(path, ACCESS),
        lambda: os.setxattr(path, ACCESS, NOT_FOR_USER),
    ):
        with refused(errno.EOPNOTSUPP):
            call()
    assert os.listxattr(path) == ["user.mine"] and os.getxattr(path, "user.mine") == b"1"


@pytest.mark.parametrize("program", PROGRAMS)
def test_there_are_no_attributes(union, layers, program):
    """As with fuse-overlayfs (which removes them, though); a copy keeps those on the disk."""
    more = {} if program is None else {"program": [program]}
    path = union(layers, options=[b"noxattrs=1"], **more).root + b"/dir/file"
    calls = [lambda: os.getxattr(path, "user.mine"), lambda: os.setxattr(path, "user.new", b"")]
    if program is None:
        calls.append(lambda: os.removexattr(path, "user.mine"))
    for call in calls:
        with refused(errno.EOPNOTSUPP):
            call()
    try:
        assert os.listxattr(path) == []
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
    write(path, b"changed")
    assert os.getxattr(layers.upper + b"/dir/file", "user.mine") == b"1"


@pytest.mark.parametrize("program", PROGRAMS)
def test_directories_show_one_link(union, layers, program):
    more = {} if program is None else {"program": [program]}
    root = union(layers, options=[b"static_nlink"], **more).root
    os.mkdir(root + b"/dir/new")
    os.mkdir(root + b"/made")
    os.mkdir(root + b"/made/below")
    for _ in range(2):  # the second time the extension may answer
        for name in (b"", b"/dir", b"/dir/sub", b"/dir/new", b"/made"):
            assert os.stat(root + name).st_nlink == 1, name
        os.listdir(root + b"/made")
    assert os.stat(root + b"/dir/file").st_nlink == 1

"""What works without the newest system calls as it does with them."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.extension import stats
from tests.support.files import read
from tests.support.older import program
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

NOTED = (("user.note", b"n"),)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_attributes_in_directories_of_one_layer(union, scratch, error):
    """Marks of the layers (a redirect), and those that programs see."""
    files = [File(b"far/moved/a", b"far", 3), File(b"one/noted", xattrs=NOTED), File(b"one/plain")]
    layers = build_stack(scratch + b"/m", [files])
    first = union(layers)
    os.mkdir(first.root + b"/holder")
    os.rename(first.root + b"/far/moved", first.root + b"/holder/in")
    first.unmount()
    os.mkdir(scratch + b"/next")
    mounted = union(layers.next_generation(scratch + b"/next"), program=program(error))
    root = mounted.root
    assert os.listdir(root + b"/holder") == [b"in"]
    assert read(root + b"/holder/in/a") == b"far"
    for _ in range(2):
        assert os.listxattr(root + b"/one/noted") == ["user.note"]
        assert os.listxattr(root + b"/one/plain") == []
    assert stats(root)["unforeseen_errors"] == 0

"""Every option that the help explains makes a mount that answers."""

from __future__ import annotations

import os
import re

import pytest

from tests.support.files import read
from tests.support.mounts import PROGRAM
from tests.support.stacks import File, build_stack
from unionfs.cli.option_help import EXPLAINED

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

OPTIONS = (
    *("ro", "allow_other", "allow_root", "suid", "dev", "noexec", "atime", "nodiratime"),
    *("volatile", "redirect_dir=off", "xattr_permissions=2", "spin=off", "spin=auto", "spin=100"),
    *("noxattrinfo", "record", "uidmapping=:0:100000:65536", "gidmapping=0:100000:65536"),
    *("data=auto", "data=cached", "readahead=auto", "readahead=off", "merged_index=off"),
    *("lend=auto", "lend=off"),
    *("noacl", "noxattrs", "static_nlink", "context=u:r:t:s0"),
    *("squash_to_root", "squash_to_uid=1000", "squash_to_gid=0"),
)


@pytest.mark.parametrize("option", OPTIONS)
def test_it_mounts(scratch, union, option):
    layers = build_stack(scratch + b"/s", [[File(b"file")]])
    root = union(layers, options=[option.encode()], program=PROGRAM).root
    assert read(root + b"/file") == b"x" * 10
    assert os.statvfs(root).f_blocks


def test_none_is_left_out():
    explained = {
        name
        for line in EXPLAINED.splitlines()
        for name in re.findall("[a-z_]+", line[2:24].partition("=")[0])
    }
    assert explained <= {option.partition("=")[0] for option in OPTIONS}

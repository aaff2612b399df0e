"""A store on another FUSE filesystem, which hears of fsync(2) and never of syncfs(2)."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.files import read, write
from tests.support.fixtures import disk, disks, left  # noqa: F401
from tests.support.mounts import OURS, UNION_OPTIONS
from tests.support.stacks import build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_loop]

FILES, CONTENT = 20, b"content"


def test_a_layer_is_whole_after_a_loss_of_power(disk, left, union, scratch):  # noqa: F811
    below = build_stack(disk.root + b"/s", [[]])
    host = union(below, options=UNION_OPTIONS).root
    disk.sync()
    os.makedirs(scratch + b"/tree/deep")
    for number in range(FILES):
        write(scratch + b"/tree/deep/%d" % number, CONTENT)
    words = [*OURS, "--root", host + b"/store", "image", "import", b"rootfs:" + scratch + b"/tree"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    there = union(left(below), options=UNION_OPTIONS).root
    (layer,) = os.listdir(there + b"/store/layers/sha256")
    found = [
        os.path.join(folder, name)
        for folder, _, names in os.walk(there + b"/store/layers/sha256/" + layer)
        for name in names
        if os.path.basename(folder) == b"deep"
    ]
    assert [read(path) for path in found] == [CONTENT] * FILES

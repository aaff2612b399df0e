"""More files open at a time than the daemon keeps descriptors."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

import pytest

from tests.support.files import opened, read, write
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

LIMIT = 1024  # descriptors; a daemon keeps a quarter of them for files
MANY = 300
FEW = 128


def _open_many(root: bytes, stack: ExitStack) -> list[int]:
    found = []
    for number in range(MANY):
        found.append(stack.enter_context(opened(root + b"/%d" % number, os.O_RDWR | os.O_CREAT)))
        assert os.write(found[-1], b"x") == 1
    return found


def test_who_made_a_file_read_only_goes_on_writing_it(scratch, union):
    layers = build_stack(scratch + b"/s", [[]])
    program = [sys.executable, "-m", "tests.support.plain_user"]
    root = union(layers, program=program, descriptors=LIMIT).root
    with ExitStack() as stack:
        made = stack.enter_context(opened(root + b"/made", os.O_WRONLY | os.O_CREAT, 0o444))
        changed = stack.enter_context(opened(root + b"/changed", os.O_RDWR | os.O_CREAT))
        for fd in (made, changed):
            os.write(fd, b"one")
        os.fchmod(changed, 0)
        _open_many(root, stack)
        for fd in (made, changed):
            assert os.write(fd, b"more") == 4
        assert os.pread(changed, 10, 0) == b"onemore"
    assert read(root + b"/made") == b"onemore"


def test_a_range_is_copied_between_files_that_lose_their_descriptors(scratch, union):
    layers = build_stack(scratch + b"/s", [[]])
    root = union(layers, descriptors=LIMIT).root
    write(root + b"/source", b"content")
    with ExitStack() as stack:
        target = stack.enter_context(opened(root + b"/target", os.O_RDWR | os.O_CREAT))
        source = stack.enter_context(opened(root + b"/source", os.O_RDWR))
        many = _open_many(root, stack)
        for others in range(LIMIT // 4 - 4, LIMIT // 4 + 4):
            for fd in (*many, source, target, *many[:others]):
                os.pwrite(fd, b"c", 0)
            assert os.copy_file_range(source, target, 7, 0, 0) == 7
            assert os.pread(target, 10, 0) == b"content"


def test_few_descriptors_are_enough_for_many_directories(scratch, union):
    """The extension keeps some as well: of layers' directories, and of those that change."""
    names = [b"d%d/f%d" % (number // 2, number % 2) for number in range(2 * FEW)]
    layers = build_stack(scratch + b"/s", [[File(name, name, len(name)) for name in names]])
    root = union(layers, descriptors=FEW).root + b"/"
    for turn in (b"a", b"b"):
        for name in names:
            os.stat(root + name)
            assert read(root + name) == name
        for name in names[::2]:
            os.mkdir(root + name + turn)
            os.stat(root + os.path.dirname(name))
            write(root + name + turn + b"/new", turn)

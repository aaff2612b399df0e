"""Whether others have a file open or mapped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.files import opened
from tests.support.maps import mapped
from unionfs.syscalls.lease import is_used_elsewhere


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_who_has_it_open(tmp_path: Path, flags: int) -> None:
    path = os.fsencode(tmp_path / "f")
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"x" * 5000, 0)
        assert not is_used_elsewhere(fd)
        with opened(path, flags):
            assert is_used_elsewhere(fd)
        again = os.dup(fd)
        assert not is_used_elsewhere(fd)
        os.close(again)
        with mapped(path, 5000):
            assert is_used_elsewhere(fd)
        assert not is_used_elsewhere(fd)


def test_what_has_no_leases() -> None:
    reading, writing = os.pipe()
    assert not is_used_elsewhere(writing)
    os.close(reading)
    os.close(writing)

"""Whether others have a file open or mapped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.files import as_user, opened
from tests.support.maps import mapped
from unionfs.syscalls.capability import CAP_CHOWN, CAP_DAC_OVERRIDE
from unionfs.syscalls.lease import is_used_elsewhere

CAP_SETUID = 7


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


@pytest.mark.needs_root
@pytest.mark.parametrize("capabilities", [1 << CAP_SETUID, 0])
def test_who_may_not_have_leases(tmp_path: Path, capabilities: int) -> None:
    """Root of a container, say, whose files are others': none of them counts as open for ever."""
    path = os.fsencode(tmp_path / "f")
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"x" * 5000, 0)
        os.chown(fd, 1234, 1234)

        def look() -> None:
            assert not is_used_elsewhere(fd)
            with mapped(path, 5000):
                assert is_used_elsewhere(fd) == bool(capabilities)
            os.chown(fd, 0, 0)  # as whom it goes on

        wanted = capabilities | 1 << CAP_CHOWN | 1 << CAP_DAC_OVERRIDE
        assert as_user(look, uid=0, gid=0, capabilities=wanted) == 0
        assert os.fstat(fd).st_uid == 0


def test_what_has_no_leases() -> None:
    reading, writing = os.pipe()
    assert not is_used_elsewhere(writing)
    os.close(reading)
    os.close(writing)

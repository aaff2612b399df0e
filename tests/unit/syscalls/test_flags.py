"""File flags: the two structures that say them, and what a filesystem has no room for."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from unionfs.syscalls import flags
from unionfs.syscalls.flags import APPEND, IMMUTABLE, PROTECTING

NODUMP, NOATIME, XFLAG_NODUMP = 0x40, 0x80, 0x80


def _xattr(xflags: int) -> bytes:
    return struct.pack("=IIIII8x", xflags, 4096, 0, 7, 0)


@pytest.mark.parametrize(
    ("reading", "changing", "plain", "both"),
    [
        (
            flags.GET_FLAGS,
            flags.SET_FLAGS,
            struct.pack("=I", NODUMP),
            struct.pack("=I", NODUMP | 0x30),
        ),
        (flags.GET_XATTR, flags.SET_XATTR, _xattr(XFLAG_NODUMP), _xattr(XFLAG_NODUMP | 0x18)),
    ],
    ids=["SETFLAGS", "FSSETXATTR"],
)
def test_what_protects_is_apart_from_the_rest(
    reading: int, changing: int, plain: bytes, both: bytes
) -> None:
    assert flags.split(changing, both) == (plain, PROTECTING)
    assert flags.split(changing, plain) == (plain, 0)
    assert flags.joined(reading, plain, PROTECTING) == both
    assert flags.split(changing, flags.joined(reading, plain, IMMUTABLE)) == (plain, IMMUTABLE)
    assert flags.split(changing, flags.joined(reading, plain, APPEND)) == (plain, APPEND)


def test_what_a_file_cannot_have_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each flag by itself where a filesystem refuses them together; here one without ``d``."""
    has = [0x80000]

    def tell(fd: int, command: int, wanted: bytes) -> None:
        (value,) = struct.unpack_from("=I", wanted)
        if value & NODUMP:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        has[0] = value

    monkeypatch.setattr(flags, "ask", lambda fd, command: struct.pack("=I28x", has[0]))
    monkeypatch.setattr(flags, "tell", tell)
    flags.describe(-1, 0x8 | NODUMP | NOATIME)
    assert has == [0x80000 | 0x8 | NOATIME]
    assert flags.describing(-1) == 0x8 | NOATIME


def test_an_error_of_the_disk_is_none_of_these(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(flags, "ask", fails)
    for call in (lambda: flags.describe(-1, NODUMP), lambda: flags.describing(-1)):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            call()


def test_a_filesystem_without_flags_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> bytes:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    monkeypatch.setattr(flags, "ask", unknown)
    assert flags.describing(-1) == 0
    flags.describe(-1, NODUMP)


def test_nothing_is_protected_here(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert flags.protecting(fd) == 0
        assert flags.protecting(fd, b"file") == 0
        assert flags.protecting(fd, b"link") == 0
        with pytest.raises(FileNotFoundError):
            flags.protecting(fd, b"nowhere")
    finally:
        os.close(fd)

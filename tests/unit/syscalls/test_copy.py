"""Copying content: the same bytes, the same holes, by every way that there is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from unionfs.syscalls import copy

MIB = 1 << 20


def _sparse(path: Path, *pieces: tuple[int, bytes], size: int) -> None:
    with path.open("wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        file.truncate(size)


@pytest.fixture(params=["reflink", "copy_file_range", "read and write", "no holes known"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Take away what is faster than the way that is to be tested."""

    def not_here(*args: object) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    real_lseek = os.lseek

    def lseek(fd: int, offset: int, whence: int) -> int:
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_lseek(fd, offset, whence)

    if request.param != "reflink":
        monkeypatch.setattr(copy, "reflink", lambda source, target: False)
    if request.param in ("read and write", "no holes known"):
        monkeypatch.setattr(os, "copy_file_range", not_here)
    if request.param == "no holes known":
        monkeypatch.setattr(os, "lseek", lseek)
    return str(request.param)


@pytest.mark.parametrize(
    ("pieces", "size"),
    [
        ([], 0),
        ([(0, b"x")], 1),
        ([], 5 * MIB),
        ([(0, b"a" * 5000), (3 * MIB, b"b" * 5000)], 6 * MIB),
        ([(9 * MIB - 5, b"end!!")], 9 * MIB),
    ],
)
@pytest.mark.parametrize("keep", [None, 3])
def test_copies_are_the_same(tmp_path: Path, way: str, pieces, size: int, keep) -> None:
    _sparse(tmp_path / "source", *pieces, size=size)
    wanted = size if keep is None else min(keep, size)
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb+") as target:
        copy.copy_data(source.fileno(), target.fileno(), wanted)
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()[:wanted]
    if way != "no holes known":
        used = (tmp_path / "target").stat().st_blocks
        assert used <= (tmp_path / "source").stat().st_blocks + 8


@pytest.mark.parametrize("sparse", [True, False])
def test_a_source_shorter_than_it_said_leaves_a_hole(tmp_path: Path, sparse: bool) -> None:
    (tmp_path / "source").write_bytes(b"short")
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb+") as target:
        copy.copy_data(source.fileno(), target.fileno(), 10, sparse=sparse)
    assert (tmp_path / "target").read_bytes() == b"short\0\0\0\0\0"


def test_a_copy_can_be_stopped_between_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "reflink", lambda source, target: False)
    monkeypatch.setattr(copy, "_CHUNK", 10)
    (tmp_path / "source").write_bytes(b"x" * 100)
    asked = []
    with (
        (tmp_path / "source").open("rb") as source,
        (tmp_path / "target").open("wb+") as target,
        pytest.raises(OSError, match="canceled"),
    ):
        copy.copy_data(
            source.fileno(),
            target.fileno(),
            100,
            keep_going=lambda: bool(asked.append(1)) or len(asked) < 3,
        )
    assert len(asked) == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_real_errors_are_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", full)
    monkeypatch.setattr(copy, "reflink", lambda source, target: False)
    (tmp_path / "source").write_bytes(b"x")
    with (
        (tmp_path / "source").open("rb") as source,
        (tmp_path / "target").open("wb+") as target,
        pytest.raises(OSError) as caught,
    ):
        copy.copy_data(source.fileno(), target.fileno(), 1)
    assert caught.value.errno == number

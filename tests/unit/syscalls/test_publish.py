"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unionfs.syscalls import publish


def test_publish_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "temporary").write_text("new")
    (tmp_path / "final").write_text("old")
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileExistsError):
        publish.publish(fd, b"temporary", b"final")
    assert (tmp_path / "final").read_text() == "old"
    (tmp_path / "final").unlink()
    publish.publish(fd, b"temporary", b"final")
    os.close(fd)
    assert os.listdir(tmp_path) == ["final"]


def test_write_file_names_the_file_that_was_wanted(tmp_path: Path) -> None:
    """Not the temporary one, of which the user knows nothing."""
    for path in (tmp_path, tmp_path / "none" / "file"):
        with pytest.raises(OSError) as caught:
            publish.write_file(str(path), b"new")
        assert (caught.value.filename, caught.value.filename2) == (str(path), None)
    assert os.listdir(tmp_path) == []


def test_write_file_replaces_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "file")
    publish.write_file(path, b"old", 0o640)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640 & ~_umask()

    def full(fd: int) -> None:
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="full"):
            publish.write_file(path, b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_locks_exclude_and_share(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with publish.locked(path, shared=True):
        with publish.locked(path, shared=True, wait=False):
            pass
        with pytest.raises(BlockingIOError), publish.locked(path, wait=False):
            pass
    with publish.locked(path, wait=False) as fd:
        assert not os.get_inheritable(fd)

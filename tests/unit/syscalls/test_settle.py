"""How a copy's data is made safe: by the filesystem that it is on, and never by less than that."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kernel
from unionfs.syscalls import settle

ROOM = 24 << 20


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    image, place = tmp_path / "image", tmp_path / "disk"
    image.write_bytes(b"")
    os.truncate(image, ROOM)
    place.mkdir()
    subprocess.run([*request.param, image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    yield place
    kernel.umount(os.fsencode(place))


def _on(place: Path) -> settle.Settle:
    fd = os.open(place, os.O_RDONLY)
    try:
        return settle.settle_on(fd)
    finally:
        os.close(fd)


@pytest.mark.needs_root
@pytest.mark.needs_loop
@pytest.mark.parametrize("disk", [["mkfs.ext4", "-q", "-F"]], indirect=True)
def test_where_a_journal_keeps_the_order_the_data_is_written_and_no_more(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fdatasync", None)
    how = _on(disk)
    data = os.urandom(100_000)
    with open(disk / "file", "wb", buffering=0) as file:
        file.write(data)
        assert data not in (disk.parent / "image").read_bytes()
        how(file.fileno())
        assert data[:4096] in (disk.parent / "image").read_bytes()
    with pytest.raises(OSError, match="Bad file descriptor"):
        how(-1)


@pytest.mark.needs_root
@pytest.mark.needs_loop
@pytest.mark.parametrize("disk", [["mkfs.ext4", "-q", "-F", "-O", "^has_journal"]], indirect=True)
def test_without_a_journal_it_is_synced(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    _on(disk)(7)
    assert synced == [7]


def test_of_an_unknown_filesystem_nothing_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    monkeypatch.setattr(settle, "_kind", lambda fd: 0x9123683E)  # btrfs
    _on(Path("/"))(7)
    assert synced == [7]

"""overlayfs's bytes and names."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.support.files import refused
from unionfs.ondisk import flavour, marks, origin, whiteout
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.marks import NO_MARKS, DirMarks, UnknownMarkError, read_dir_marks
from unionfs.syscalls import handle as handles
from unionfs.syscalls.handle import FileHandle, handle_of, open_handle


@pytest.mark.parametrize("kind", list(Flavour))
@pytest.mark.parametrize("rest", [b"opaque", b"overlay.opaque", b"overlay.", b""])
def test_names_of_users_and_of_the_driver_do_not_meet(kind: Flavour, rest: bytes) -> None:
    name = kind.prefix + rest
    stored = kind.to_disk(name)
    assert stored not in (kind.opaque, kind.redirect)
    assert kind.from_disk(stored) == name
    assert kind.from_disk(kind.opaque) is None
    assert kind.to_disk(b"user.x") == kind.from_disk(b"user.x") == b"user.x"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (b"trusted.overlay.opaque", True),
        (b"user.overlay.x", True),
        (b"user.fuseoverlayfs.opaque", True),
        (b"user.containers.override_stat", True),
        (b"security.fuseoverlayfs.opaque", True),
        (b"user.overlays", False),
        (b"security.capability", False),
    ],
)
def test_driver_names_are_known(name: bytes, ours: bool) -> None:
    assert flavour.is_driver_name(name) is ours


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({}, marks.NO_MARKS),
        ({"user.other": b"y"}, marks.NO_MARKS),
        ({"user.overlay.opaque": b"y"}, DirMarks(True, False, False, None)),
        ({"user.overlay.opaque": b"x"}, DirMarks(False, True, False, None)),
        ({"user.overlay.opaque": b"n"}, marks.NO_MARKS),
        ({"user.overlay.impure": b"y"}, DirMarks(False, False, True, None)),
        ({"user.overlay.redirect": b"/a/b"}, DirMarks(False, False, False, b"/a/b")),
        ({"user.overlay.redirect": b"name"}, DirMarks(False, False, False, b"name")),
        ({"user.fuseoverlayfs.opaque": b"y"}, DirMarks(True, False, False, None)),
    ],
)
def test_marks_are_read(tmp_path: Path, attributes: dict[str, bytes], wanted: DirMarks) -> None:
    for name, value in attributes.items():
        os.setxattr(tmp_path, name, value)
    assert read_dir_marks(os.fsencode(tmp_path), Flavour.USER) == wanted


@pytest.mark.parametrize(
    "redirect", [b"a/b", b"..", b"/a/../b", b"/", b"//a", b"/a/", b".", b"/a//b"]
)
def test_redirects_that_are_no_clean_path_are_refused(tmp_path: Path, redirect: bytes) -> None:
    os.setxattr(tmp_path, "user.overlay.redirect", redirect)
    with pytest.raises(UnknownMarkError, match="redirect"):
        read_dir_marks(os.fsencode(tmp_path), Flavour.USER)


def test_a_mark_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    for known in (
        "origin",
        "impure",
        "nlink",
        "uuid",
        "protattr",
        "overlay.anything",
        "unionfs.born",
    ):
        os.setxattr(tmp_path, f"user.overlay.{known}", b"n")
    os.setxattr(tmp_path, "user.other", b"")
    assert read_dir_marks(os.fsencode(tmp_path), Flavour.USER) == NO_MARKS
    os.setxattr(tmp_path, "user.overlay.new", b"")
    assert read_dir_marks(os.fsencode(tmp_path), Flavour.TRUSTED) == NO_MARKS
    with pytest.raises(UnknownMarkError, match=r"user\.overlay\.new"):
        read_dir_marks(os.fsencode(tmp_path), Flavour.USER)


def test_whiteouts(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    whiteout.make_whiteout(fd, b"one")
    whiteout.share_whiteout(fd, b"one", fd, b"two")
    assert whiteout.is_whiteout(os.lstat(tmp_path / "two"))
    assert os.lstat(tmp_path / "two").st_nlink == 2
    with pytest.raises(FileExistsError):
        whiteout.make_whiteout(fd, b"one")
    os.close(fd)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path, Path("/dev/null")):
        assert not whiteout.is_whiteout(os.lstat(path))


UUID = bytes(range(16))
HANDLE = FileHandle(1, b"\x01\x02\x03\x04\x05\x06\x07\x08")


def test_an_origin_is_spelled_as_the_kernel_does() -> None:
    value = origin.Origin(UUID, HANDLE).encode()
    little = struct.pack("<i", 1)[0]
    assert value == bytes((0, 0xFB, 29, 0 if little else 1, 1)) + UUID + HANDLE.data
    assert origin.decode(value) == origin.Origin(UUID, HANDLE)
    assert origin.Origin(UUID, HANDLE).index_name() == value.hex().encode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: None,
        lambda value: b"",
        lambda value: value[:10],
        lambda value: value[:-1],
        lambda value: b"\x01" + value[1:],
        lambda value: value[:1] + b"\xfa" + value[2:],
        lambda value: value[:3] + bytes((value[3] ^ 1,)) + value[4:],
    ],
)
def test_foreign_origins_are_none(spoil) -> None:
    assert origin.decode(spoil(origin.Origin(UUID, HANDLE).encode())) is None


def test_origins_of_any_byte_order_are_read() -> None:
    value = bytearray(origin.Origin(UUID, HANDLE).encode())
    value[3] |= 2
    assert origin.decode(bytes(value)) == origin.Origin(UUID, HANDLE)


@pytest.mark.needs_root
def test_handles_find_their_file_until_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    fd = os.open(tmp_path, os.O_RDONLY)
    handle = handle_of(fd, b"link")
    found = open_handle(fd, handle)
    assert os.readlink(b"", dir_fd=found) == b"nowhere"
    os.close(found)
    assert handle_of(fd) != handle
    (tmp_path / "link").unlink()
    with pytest.raises(OSError, match="Stale"):
        open_handle(fd, handle)
    os.close(fd)


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_somebody_holds_without_a_name_is_gone(tmp_path: Path, kind: str) -> None:
    path, fd = tmp_path / "name", os.open(tmp_path, os.O_RDONLY)
    path.touch() if kind == "file" else path.mkdir()
    handle, held = handle_of(fd, b"name"), os.open(path, os.O_RDONLY)
    os.close(open_handle(fd, handle))
    path.unlink() if kind == "file" else path.rmdir()
    with pytest.raises(OSError, match="Stale"):
        open_handle(fd, handle)
    os.close(held)
    os.close(fd)


@pytest.mark.needs_root
@pytest.mark.parametrize("others", [3, 1000])
def test_a_number_that_a_new_file_is_being_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """The kernel says ENOMEM for that moment; where it goes on saying so, it is what it says."""
    path, fd = tmp_path / "name", os.open(tmp_path, os.O_RDONLY)
    path.touch()
    handle, real, left = handle_of(fd, b"name"), handles._open_by_handle_at, [others]

    def call(*args: Any) -> Any:
        if not left[0]:
            return real(*args)
        left[0] -= 1
        ctypes.set_errno(errno.ENOMEM)
        return -1

    monkeypatch.setattr(handles, "_open_by_handle_at", call)
    if others < 100:
        os.close(open_handle(fd, handle))
    else:
        with refused(errno.ENOMEM):
            open_handle(fd, handle)
    os.close(fd)


def test_the_filesystems_uuid_is_asked_for_once_and_errors_of_the_disk_are_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    uuid = origin.filesystem_uuid(fd)
    assert uuid is None or len(uuid) == 16

    def ioctl(fd: int, request: int, buffer: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    with pytest.raises(OSError, match="Input/output"):
        origin.filesystem_uuid(fd)
    os.close(fd)

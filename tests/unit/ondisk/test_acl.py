"""ACLs, as fs/posix_acl.c treats them: the same files on a real filesystem are the oracle."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from unionfs.ondisk import acl
from unionfs.ondisk.acl import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entry

_NONE = 0xFFFFFFFF
BASIC = [Entry(USER_OBJ, 6, _NONE), Entry(GROUP_OBJ, 5, _NONE), Entry(OTHER, 4, _NONE)]
FULL = [
    Entry(USER_OBJ, 7, _NONE),
    Entry(USER, 5, 1001),
    Entry(GROUP_OBJ, 7, _NONE),
    Entry(GROUP, 6, 2001),
    Entry(MASK, 6, _NONE),
    Entry(OTHER, 1, _NONE),
]


@pytest.mark.parametrize("entries", [BASIC, FULL])
@pytest.mark.parametrize("mode", [0o777, 0o640, 0o000, 0o2751])
def test_inherited_as_the_kernel_does(tmp_path: Path, entries: list[Entry], mode: int) -> None:
    os.setxattr(tmp_path, acl.DEFAULT, acl.encode(entries))
    file = tmp_path / "f"
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, mode))
    found, shown = acl.inherited(entries, mode)
    assert stat.S_IMODE(file.stat().st_mode) == shown
    if acl.is_extended(found):
        assert acl.decode(os.getxattr(file, acl.ACCESS)) == found
    else:
        with pytest.raises(OSError):
            os.getxattr(file, acl.ACCESS)


@pytest.mark.parametrize("entries", [BASIC, FULL])
@pytest.mark.parametrize("mode", [0o777, 0o640, 0o000])
def test_set_and_changed_as_the_kernel_does(
    tmp_path: Path, entries: list[Entry], mode: int
) -> None:
    file = tmp_path / "f"
    file.touch()
    os.setxattr(file, acl.ACCESS, acl.encode(entries))
    assert stat.S_IMODE(file.stat().st_mode) == acl.mode_of(entries)
    file.chmod(mode)
    changed = acl.after_chmod(entries, mode)
    assert stat.S_IMODE(file.stat().st_mode) == acl.mode_of(changed)
    if acl.is_extended(entries):
        assert acl.decode(os.getxattr(file, acl.ACCESS)) == changed


@pytest.mark.parametrize(
    ("uid", "groups", "allowed"),
    [
        (1000, (), 7),  # the owner, whom no mask concerns
        (1001, (2000,), 4),  # named: 5, of which the mask leaves 4
        (1002, (2000,), 6),  # the owning group
        (1002, (2001,), 6),  # a named group
        (1002, (), 1),
    ],
)
def test_access(uid: int, groups: tuple[int, ...], allowed: int) -> None:
    for want in range(1, 8):
        assert acl.permits(FULL, (1000, 2000), uid, groups, want) == (not want & ~allowed)


@pytest.mark.parametrize(
    "value",
    [b"", b"\2", b"\1\0\0\0", acl.encode(FULL)[:-1], acl.encode(FULL[1:]), acl.encode(BASIC * 2)],
)
def test_what_is_no_acl(value: bytes) -> None:
    with pytest.raises(OSError) as caught:
        acl.decode(value)
    assert caught.value.errno == errno.EINVAL

"""What an ordinary user's mount copies up is never more privileged than what he could make.

CVE-2023-0386, CVE-2023-2640: a set-user-ID file of root's, or one with capabilities, copied into a
directory of the user's, where it counted.
"""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import kernel
from tests.support.ordinary import GID, UID, User

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # CAP_SYS_ADMIN, effective
PRIVILEGED = {"suid": 0o4777, "sgid": 0o2777, "cap": 0o777, "both": 0o6777}
CHANGES = """
import os, sys
for change in ("os.chmod(p, 0o6777)", "os.truncate(p, 2)", "open(p, 'ab').write(b'x')",
               "os.utime(p)", "os.setxattr(p, 'user.x', b'1')", "os.link(p, p + '-link')",
               "os.rename(p, p + '-moved')", "os.rename(p + '-moved', p)"):
    for p in sys.argv[1:]:
        try:
            exec(change)
        except OSError as error:
            print(p, change, error.errno)
"""


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    """A layer of root's with privileged programs in it, which everybody may change."""
    lower = tmp_path / "lower"
    lower.mkdir()
    for name, mode in PRIVILEGED.items():
        (lower / name).write_bytes(b"#!/bin/true\n")
        (lower / name).chmod(mode)
    os.setxattr(lower / "cap", "security.capability", CAPABILITY)
    lower.chmod(0o777)
    for at in (tmp_path, *tmp_path.parents):
        if not at.stat().st_mode & 0o001:
            at.chmod(at.stat().st_mode | 0o011)
    return lower


@pytest.mark.parametrize("options", ["", ",xattr_permissions=2"], ids=["as it is", "kept aside"])
def test_copying_up_gives_no_privilege(user: User, lower: Path, tmp_path: Path, options: str):
    place = tmp_path / "mine"
    place.mkdir()
    os.chown(place, UID, GID)
    user.run("mkdir", place / "upper", place / "work", place / "merged")
    words = f"lowerdir={lower},upperdir={place}/upper,workdir={place}/work{options}"
    merged = place / "merged"
    program = user.start(user.python, "-m", "unionfs", "-f", "-o", words, merged)
    try:
        _await_mount(program, merged)
        user.script(CHANGES, *(merged / name for name in PRIVILEGED))
    finally:
        user.run("fusermount3", "-u", merged)
        assert program.wait(20) == 0
    copies = [path for path in (place / "upper").rglob("*") if path.is_file()]
    # A copy that could not have its owner is refused; beside the file, any owner can be kept.
    assert bool(copies) == bool(options)
    for copy in copies:
        _assert_unprivileged(copy)


def _await_mount(program: subprocess.Popen[str], merged: Path) -> None:
    end = time.monotonic() + 20
    while not (kernel.mounted_at(os.fsencode(merged)) or b"").startswith(b"fuse"):
        assert program.poll() is None and time.monotonic() < end
        time.sleep(0.005)


def _assert_unprivileged(copy: Path) -> None:
    """A set-id bit may be for the user himself and his group, as he could set it any time."""
    st = copy.stat()
    assert not st.st_mode & stat.S_ISUID or st.st_uid == UID, copy
    assert not st.st_mode & stat.S_ISGID or st.st_gid == GID, copy
    assert "security.capability" not in os.listxattr(copy), copy

"""Directories that their own user has closed to himself: as in a directory of his.

Whoever owns a directory's parent may remove it, or move another over it, whatever its mode says.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.ordinary import GID, UID, User, mounted

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

CHANGES = """
import errno, os, sys
os.chdir(sys.argv[1])
def answer(what, call, *args):
    try:
        call(*args)
        print(what, "done")
    except OSError as error:
        print(what, errno.errorcode[error.errno])
def change(prefix):
    for mode in (0o700, 0o600, 0o400, 0o300, 0o200, 0o100, 0):
        name = f"{prefix}{mode:o}"
        answer(f"mkdir {name}", os.mkdir, name, mode)
        answer(f"rmdir {name}", os.rmdir, name)
        os.mkdir(name)
        open(name + "/file", "w").close()
        os.chmod(name, mode)
        answer(f"rmdir full {name}", os.rmdir, name)
        os.chmod(name, 0o700)
        os.unlink(name + "/file")
        os.chmod(name, mode)
        os.mkdir(name + "-moved")
        answer(f"rename over {name}", os.rename, name + "-moved", name)
        os.mkdir(name + "-stays", mode)
        answer(f"stat {name}", os.stat, name + "-stays")
change("dir/before-")
os.rename("lower", "dir/lower")  # from now on who is in dir may have been elsewhere
change("dir/after-")
"""
HELD = """
import errno, os, sys
os.chdir(sys.argv[1])
file = os.open("held/below/file", os.O_RDWR)
for mode in (0o600, 0o700):
    os.chmod("held", mode)
    try:
        print(oct(mode), os.write(file, b"x"))
    except OSError as error:
        print(oct(mode), errno.errorcode[error.errno])
"""
LOOK = """
import os, sys
def fail(error):
    if os.stat(error.filename).st_mode & 0o500 == 0o500:
        raise error
for folder, dirs, files in os.walk(sys.argv[1], onerror=fail):
    for name in sorted(dirs + files):
        path = os.path.join(folder, name)
        print(os.path.relpath(path, sys.argv[1]), oct(os.lstat(path).st_mode))
"""


def test_as_in_a_directory_of_his(user: User, tmp_path: Path) -> None:
    place = user.home / tmp_path.name
    for name in ("plain", "lower"):
        (place / name / "dir").mkdir(parents=True)
        (place / name / "lower").mkdir()
    for name in ("upper", "work", "merged"):
        (place / name).mkdir()
    subprocess.run(["chown", "-R", f"{UID}:{GID}", place], check=True)
    plain = place / "plain"
    with mounted(user, place, "") as merged:
        assert user.script(CHANGES, merged) == user.script(CHANGES, plain)
    with mounted(user, place, "") as merged:
        seen, expected = user.script(LOOK, merged), user.script(LOOK, plain)
        assert sorted(seen.splitlines()) == sorted(expected.splitlines())


def test_what_is_open_in_a_directory_that_is_closed(user: User, tmp_path: Path) -> None:
    """It waits until the directory is open again: his daemon has no more rights than he has.

    Without the extension not: then opening to write is a request, which copies the file up.
    """
    place = user.home / tmp_path.name
    for name in ("plain", "lower", "kept/lower"):
        (place / name / "held/below").mkdir(parents=True)
        (place / name / "held/below/file").touch()
    for name in ("upper", "work", "merged"):
        (place / name).mkdir()
        (place / "kept" / name).mkdir()
    subprocess.run(["chown", "-R", f"{UID}:{GID}", place], check=True)
    assert user.script(HELD, place / "plain") == "0o600 1\n0o700 1\n"
    with mounted(user, place, "") as merged:
        closed = "1" if user.env["UNIONFS_PURE"] == "1" else "EACCES"
        assert user.script(HELD, merged) == f"0o600 {closed}\n0o700 1\n"
    with mounted(user, place / "kept", ",xattr_permissions=2") as merged:
        assert user.script(HELD, merged) == "0o600 1\n0o700 1\n"

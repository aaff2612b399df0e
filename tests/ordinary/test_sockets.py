"""Unix sockets in an ordinary user's mount: as in a directory of his, wherever owners are kept.

Where those are kept beside the files, the disk has a regular file for each socket.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support import sockets
from tests.support.ordinary import GID, UID, User, mounted

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


OPTIONS = {"as it is": "", "kept aside": ",xattr_permissions=2"}


def _talk(user: User, root: Path, *how: str) -> str:
    done = user.run(user.python, "-m", "tests.support.sockets", root, *how)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_as_in_a_directory_of_his(user: User, tmp_path: Path, options: str) -> None:
    place = user.home / tmp_path.name
    for name in ("plain", "lower", "upper", "work", "merged"):
        (place / name).mkdir(parents=True)
    for name in ("plain", "lower"):
        sockets.build(os.fsencode(place / name))
    subprocess.run(["chown", "-hR", f"{UID}:{GID}", place], check=True)
    how = ["rename"] if options else []
    with mounted(user, place, options) as merged:
        assert _talk(user, merged, *how) == _talk(user, place / "plain", *how)
    kind = stat.S_IFMT((place / "upper/run/again").lstat().st_mode)
    assert kind == (stat.S_IFREG if options else stat.S_IFSOCK)
    again = "import os, sys; print(os.stat(sys.argv[1] + '/run/again').st_mode)"
    with mounted(user, place, options) as merged:
        assert stat.S_ISSOCK(int(user.script(again, merged)))

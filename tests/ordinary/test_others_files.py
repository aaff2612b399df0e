"""A user's own mount over a layer whose files are others', where owners are as on the disk.

A copy of such a file would be his own, so what takes one is refused (README.md, "Limits").
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.ordinary import GID, UID, User, mounted

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

CALLS = """
import errno, os, sys
os.chdir(sys.argv[1])
for what in ("os.unlink('d/alone')", "os.unlink('d/linked')", "os.rename('d/moved', 'd/to')"):
    try:
        eval(what)
        print("done", end=" ")
    except OSError as error:
        print(errno.errorcode[error.errno], end=" ")
print(*sorted(os.listdir("d")))
"""


def test_names_of_others_in_a_directory_of_his(user: User, tmp_path: Path) -> None:
    place = user.home / tmp_path.name
    for layer in ("plain", "lower"):
        (place / layer / "d").mkdir(parents=True)
    for name in ("upper", "work", "merged"):
        (place / name).mkdir()
    subprocess.run(["chown", "-R", f"{UID}:{GID}", place], check=True)
    for layer in ("plain", "lower"):
        for name in ("alone", "linked", "moved"):
            (place / layer / "d" / name).touch()
        os.link(place / layer / "d/linked", place / layer / "d/other")
    assert user.script(CALLS, place / "plain") == "done done done other to\n"
    with mounted(user, place, "") as merged:
        assert user.script(CALLS, merged) == "done EPERM EPERM linked moved other\n"
    assert os.listdir(place / "upper/d") == ["alone"]  # its whiteout

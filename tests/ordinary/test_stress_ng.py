"""stress-ng's filesystem stressors in an ordinary user's mount: no namespace, nothing of root's.

Owners are as they are on the disk. Where they are beside the files the user is root of the tree,
which stress-ng does not expect. In the full run all groups, each stressor for a minute.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.examples import FULL
from tests.support.ordinary import GID, UID, User, mounted
from tests.support.stacks import build_layer
from tests.support.stress import GROUPS, LOW, run_group

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture
def place(user: User, tmp_path: Path) -> Path:
    """Return the user's layer, and what else a mount needs."""
    made = user.home / tmp_path.name
    for name in ("upper", "work", "merged"):
        (made / name).mkdir(parents=True)
    build_layer(os.fsencode(made / "lower"), LOW)
    subprocess.run(["chown", "-hR", f"{UID}:{GID}", made], check=True)
    return made


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("group", GROUPS if FULL else ["attributes"])
def test_stressors_run_clean(user: User, place: Path, group: str) -> None:
    with mounted(user, place, "") as merged:
        run_group(group, os.fsencode(merged / "work"), os.fsencode(user.home), user.start)
        listing = user.run("find", merged, "-printf", "%P %y %s\\n").stdout
    with mounted(user, place, "") as merged:
        assert user.run("find", merged, "-printf", "%P %y %s\\n").stdout == listing


@pytest.mark.parametrize("options", ["", ",xattr_permissions=2"], ids=["as it is", "kept aside"])
def test_files_that_their_maker_may_not_write(user: User, place: Path, options: str) -> None:
    """As git makes them (0444), and tar, and whoever has such a umask."""
    made = (
        "import os, stat, sys; os.chdir(sys.argv[1]); os.umask(0)\n"
        "for name, mode in (('a', 0o444), ('b', 0), ('c', 0o044)):\n"
        "    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)\n"
        "    assert os.write(fd, b'x') == 1 and os.pread(fd, 2, 0) == b'x'\n"
        "    os.mkdir(name + 'd', mode)\n"
        "for name in sorted(os.listdir('.')):\n"
        "    print(name, oct(os.lstat(name).st_mode))\n"
    )
    with mounted(user, place, options) as merged:
        lines = user.script(made, merged / "work/dir").splitlines()
    found = [line for line in lines if not line.startswith("below")]
    wanted = ["a 0o100444", "ad 0o40444", "b 0o100000", "bd 0o40000", "c 0o100044", "cd 0o40044"]
    assert found == wanted

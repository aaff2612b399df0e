"""check, image verify, df and gc of an ordinary user's store, whose files say what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ordinary.test_image import layers
from tests.support import images
from tests.support.ordinary import User

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_CHANGE = """
import os, sys
os.chdir(sys.argv[1])
os.rename("etc", "moved")
with open("moved/mine", "ab") as file:
    file.write(b"more")
os.link("second", "third")
os.unlink("big")
os.mkdir("new")
"""
_SPOIL = """  # a second time it mends: other tests' images in the store have these layers, too
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        if name in ("mine", "link"):
            with open(os.path.join(folder, name), "r+b") as file:
                st = os.fstat(file.fileno())
                (first,) = file.read(1)
                file.seek(0)
                file.write(bytes([first ^ 1]))
                file.flush()
                os.utime(file.fileno(), ns=(st.st_atime_ns, st.st_mtime_ns))
"""


@pytest.fixture
def changed(user: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's container ``u``, changed in many ways; its mount point."""
    archive = user.home.parent / "upkeep.tar"
    archive.write_bytes(images.docker_archive(layers()))
    archive.chmod(0o644)
    user.unionfs("image", "import", archive, "--name", "upkeep")
    user.unionfs("create", "upkeep", "--name", "u")
    target = Path(user.unionfs("mount", "u").strip())
    user.script(_CHANGE, target)
    yield target
    user.unionfs("rm", "--force", "u")
    user.unionfs("image", "rm", "--force", "upkeep", "kept", status=0)


def test_the_life_of_a_store(user: User, changed: Path) -> None:
    assert "is mounted" in user.unionfs("check")
    user.unionfs("umount", "u")
    told = user.unionfs("check").splitlines()
    assert told[-1] == "no faults"
    assert [line.split(": ")[2] for line in told[:-1]] == ["/moved"]  # which the kernel refuses
    user.unionfs("commit", "u", "kept")
    assert user.unionfs("image", "verify", "kept") == "3 layers as imported\n"
    assert user.unionfs("check").splitlines()[-1] == "no faults"
    document = json.loads(user.unionfs("--json", "df"))
    assert {name for one in document["images"] for name in one["names"]} >= {"kept:latest"}
    assert user.unionfs("gc").endswith("freed 0B\n")
    store = changed.parents[2]
    user.script(_SPOIL, store / "layers")
    lines = user.unionfs("image", "verify", "upkeep", status=1).splitlines()
    user.script(_SPOIL, store / "layers")
    assert user.unionfs("image", "verify", "upkeep") == "2 layers as imported\n"
    found = {line.split()[2] for line in lines if "has other content" in line}
    assert found == {"etc/mine:", "link:", "link2:"}

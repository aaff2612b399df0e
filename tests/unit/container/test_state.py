"""What is mounted is what the mount table says, and nothing else."""

from __future__ import annotations

from pathlib import Path

from unionfs.container.state import (
    Mounted,
    container_fsname,
    container_of_fsname,
    image_fsname,
    read_state,
)

ID = "ab" * 32
OTHER = "cd" * 32
TABLE = f"""\
22 1 0:21 / /proc rw - proc proc rw
30 1 0:40 / /a\\040b rw,nodev - fuse.unionfs unionfs:{ID} rw,user_id=0
31 1 0:41 / /c ro,nodev - fuse.unionfs unionfs:{ID}:run rw,user_id=0
32 1 0:42 / /d rw,nodev - fuse.unionfs unionfs:image:{OTHER} ro,user_id=0
33 1 0:43 / /e rw - fuse.fuse-overlayfs unionfs:{ID} rw
34 1 0:44 / /f rw - fuse.unionfs unionfs rw
35 1 0:45 / /g rw - tmpfs unionfs:{ID} rw
"""


def test_the_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    state = read_state(str(tmp_path / "mountinfo"))
    assert state.of_container(ID) == [
        Mounted(b"/a b", transient=False, read_only=False),
        Mounted(b"/c", transient=True, read_only=True),
    ]
    assert state.of_image(OTHER) == [Mounted(b"/d", transient=False, read_only=True)]
    assert state.of_container(OTHER) == ()
    assert state.of_image(ID) == ()


def test_names_and_back() -> None:
    assert container_of_fsname(container_fsname(ID)) == ID
    assert container_of_fsname(container_fsname(ID, transient=True)) == ID
    assert container_of_fsname(image_fsname(OTHER)) is None
    assert container_of_fsname("unionfs") is None
    assert container_of_fsname("tmpfs") is None

"""A store that another driver used before us, and one that it uses after us."""

from __future__ import annotations

import os

import pytest

from tests.support.engine_checks import TINY
from tests.support.engine_images import Images
from tests.support.engines import Engine, mount_program, short_directory

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]

ANEW = "cd /data; rm -r sub; mkdir sub; echo new >sub/new"
REMOVE = "cd /data; rm -r sub three"
THERE = ["/data/one", "/data/three", "", "/data:", "one", "sub", "three", "", "/data/sub:", "deep"]
REMOVED = ["/data/one", "", "/data:", "one"]
MADE_ANEW = [*THERE[:-1], "new"]


@pytest.mark.parametrize("other", ["/usr/bin/fuse-overlayfs", ""], ids=["fuse-overlayfs", "kernel"])
def test_from_another_driver_to_us_and_back(images: Images, tmp_path, other):
    """Images that it pulled and built, and a container that it made, are the same with us.

    And back: fuse-overlayfs reads what we unpacked, the kernel what was there before the change
    (it has no whiteouts but its own, and storage writes AUFS's for mount programs).
    """
    with short_directory() as short:
        theirs = Engine(tmp_path, short, other, name="theirs")
        ours = Engine(tmp_path, short, mount_program(tmp_path))
        try:
            theirs.podman("load", "-i", images.tiny)
            theirs.podman("run", "--name", "box", TINY, "sh", "-ec", ANEW)
            build(theirs, "localhost/theirs:1", REMOVE)
            for engine in (ours, theirs):
                assert shown(engine, TINY) == THERE
                assert shown(engine, "localhost/theirs:1") == REMOVED
            look_at_box(ours)
            if other:
                build(ours, "localhost/ours:1", ANEW)
                assert shown(theirs, "localhost/ours:1") == MADE_ANEW
        finally:
            ours.close()


def build(engine: Engine, image: str, script: str) -> None:
    """Make *image* by a commit. (Of ANEW, fuse-overlayfs would bring back what was there.)"""
    engine.podman("run", "--name", "builder", TINY, "sh", "-ec", script)
    engine.podman("commit", "builder", image)
    engine.podman("rm", "builder")


def shown(engine: Engine, image: str) -> list[str]:
    return engine.once(image, "ls /data /data/*").splitlines()


def look_at_box(engine: Engine) -> None:
    """Look at the stopped container ``box``, whose upper the other driver wrote."""
    at = engine.podman("mount", "box").strip()
    assert sorted(os.listdir(f"{at}/data")) == ["one", "sub", "three"]
    assert os.listdir(f"{at}/data/sub") == ["new"]
    engine.podman("umount", "box")

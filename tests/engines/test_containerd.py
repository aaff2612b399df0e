"""containerd, with a snapshotter that answers with mounts of type ``fuse3.unionfs``.

Layers are unpacked through our mounts, and containers run on them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest

from tests.support import kernel, leftovers
from tests.support.containerd import Containerd, containerd
from tests.support.engine_images import Images
from tests.support.engines import short_directory, soon

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

TINY = "localhost/tiny:1"
OURS = ("--snapshotter", "unionfs")


@pytest.fixture(scope="module")
def engine(images: Images) -> Iterator[Containerd]:
    """A containerd with the image ``localhost/tiny:1``."""
    if not leftovers.in_own_namespace():
        kernel.own_mount_namespace()
    with short_directory() as place, containerd(place) as engine:
        engine.ctr("images", "import", *OURS, images.tiny)
        yield engine


@pytest.fixture(autouse=True)
def nothing_mounted(engine: Containerd):
    yield
    assert soon(lambda: leftovers.fuse_mounts(os.fsencode(engine.place)) == [])


def test_layers_are_unpacked_through_the_mount(engine: Containerd):
    """What the second layer deletes is deleted there: the whiteout is ours, not the tar's."""
    base, second = sorted(engine.directories().values())
    assert sorted(os.listdir(base / "data")) == ["one", "sub", "two"]
    assert sorted(os.listdir(second / "data")) == ["three", "two"]
    found = os.lstat(second / "data" / "two")
    assert stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def test_a_container_runs_and_is_forgotten(engine: Containerd):
    before = engine.directories()
    script = "ls /data; echo new >/data/new; rm /data/one; ls /data; cat /proc/mounts; exit 3"
    done = engine.run("run", "--rm", *OURS, TINY, "box", "sh", "-c", script, status=3)
    *names, root = done.stdout.splitlines()[:7]
    assert names == ["one", "sub", "three", "new", "sub", "three"]
    assert root.startswith("overlay / fuse.unionfs rw,")
    assert soon(lambda: engine.directories() == before)


def test_a_layer_stays_until_its_snapshot_is_removed(engine: Containerd):
    """It holds what a container changed, which a second command in it saw."""
    before = engine.directories()
    engine.ctr("run", "--detach", *OURS, TINY, "web", "sleep", "1000")
    engine.ctr("task", "exec", "--exec-id", "1", "web", "sh", "-c", "echo new >/data/new")
    said = engine.ctr("task", "exec", "--exec-id", "2", "web", "sh", "-c", "cat /data/new; id -u")
    assert said == "new\n0\n"
    engine.ctr("task", "delete", "--force", "web")
    engine.ctr("snapshot", *OURS, "label", "web", "containerd.io/gc.root=kept")
    engine.ctr("container", "delete", "--keep-snapshot", "web")
    layer = engine.directories()["web"]
    assert os.listdir(layer / "data") == ["new"]
    engine.ctr("snapshot", *OURS, "rm", "web")
    assert soon(lambda: engine.directories() == before)
    assert not layer.exists()


def test_an_image_is_removed_and_its_layers_with_it(engine: Containerd, images: Images):
    engine.ctr("images", "rm", "--sync", TINY)
    assert soon(lambda: engine.directories() == {})
    assert sorted(os.listdir(engine.layers)) == ["empty", "names"]
    engine.ctr("images", "import", *OURS, images.tiny)
    assert len(engine.directories()) == 2

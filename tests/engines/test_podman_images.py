"""What Podman does with images: commit, build, many layers, looking at one, removing it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import engine_checks
from tests.support.engine_checks import TINY
from tests.support.engine_images import Images, change_with_buildah
from tests.support.engines import Engine, daemons
from tests.support.leftovers import fuse_mounts

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.usefixtures("nothing_mounted"),
]


def test_commit_and_run_what_was_committed(engine: Engine):
    """With a directory made anew, whose old content must not come back."""
    change = (
        "cd /data; rm -rf sub; mkdir sub; echo new >sub/new; rm three; mv one 1; ln 1 hard;"
        "chmod 2711 .; chown 5:6 1; chmod 711 1; mv /usr/share/dpkg /usr/share/moved"
    )
    engine.podman("run", "--name", "work", TINY, "sh", "-ec", change)
    engine.podman("commit", "work", "localhost/changed:1")
    assert engine.layers("localhost/changed:1")[:-1] == engine.layers(TINY)
    look = "cd /data; ls . sub; cat sub/new; stat -c '%a %u' .; stat -c '%a %u %g %h' 1;"
    look += "cd /usr/share; ls . moved"
    said = engine.once("localhost/changed:1", look).split("\n")
    assert said == [
        *(".:", "1", "hard", "sub", "", "sub:", "new", "new"),
        *("2711 0", "711 5 6 2", ".:", "moved", ""),
        *("moved:", "abitable", "cputable", "ostable", "tupletable", ""),
    ]
    engine.podman("rmi", "localhost/changed:1", "--force")


def test_build_in_stages_and_from_the_cache(engine: Engine, tmp_path: Path):
    engine_checks.build_in_stages_and_from_the_cache(engine, tmp_path)


def test_buildah_and_skopeo(engine: Engine, tmp_path: Path):
    change_with_buildah(engine, tmp_path)
    said = engine.once("localhost/again:1", "cat /copied/file; ls -A /data /data/sub")
    assert said.split() == ["copied", "/data:", "one", "sub", "three", "/data/sub:"]
    engine.podman("rmi", "localhost/again:1")


def test_sixty_layers(engine: Engine, images: Images):
    engine_checks.sixty_layers(engine, images)


def test_an_image_is_mounted_and_looked_at(engine: Engine):
    at = engine.podman("image", "mount", TINY).strip()
    assert [entry.kind for entry in fuse_mounts() if entry.target == os.fsencode(at)] == [
        b"fuse.unionfs"
    ]
    assert sorted(os.listdir(f"{at}/data")) == ["one", "sub", "three"]
    with pytest.raises(OSError, match="Read-only"):
        Path(at, "data/new").touch()
    engine.podman("image", "umount", TINY)
    assert engine.mounts() == []


def test_an_image_is_removed_and_its_layers_with_it(engine: Engine):
    engine_checks.layers_go_with_their_image(engine)


def test_named_on_the_command_line(engine: Engine, tmp_path: Path):
    """``--storage-opt overlay.mount_program=`` instead of a line in storage.conf."""
    program = engine.place / "unionfs"
    (tmp_path / "other").symlink_to(program)
    words = ("--storage-driver", "overlay", "--storage-opt")
    option = f"overlay.mount_program={tmp_path}/other"
    engine.podman(*words, option, "run", "-d", "--name", "c", TINY, "sleep", "1000")
    assert engine.sh("c", "cat /data/three") == "three\n"
    (point,) = engine.mounts()
    assert any(f"{tmp_path}/other".encode() in words for words in daemons(point).values())

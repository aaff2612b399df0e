"""What Podman does with images: commit, build, many layers, looking at one, removing it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.engine_images import LAYERS, Images, change_with_buildah
from tests.support.engines import Engine
from tests.support.leftovers import fuse_mounts

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

TINY = "localhost/tiny:1"


@pytest.fixture(autouse=True)
def nothing_mounted(engine: Engine):
    yield
    engine.clear()
    assert engine.mounts() == []


def run(engine: Engine, image: str, script: str, *words: str) -> str:
    return engine.podman("run", "--rm", *words, image, "sh", "-ec", script)


def layers(engine: Engine, image: str) -> list[str]:
    return engine.inspect("--type", "image", image)["RootFS"]["Layers"]


def test_commit_and_run_what_was_committed(engine: Engine):
    """With a directory made anew, whose old content must not come back."""
    change = (
        "cd /data; rm -rf sub; mkdir sub; echo new >sub/new; rm three; mv one 1; ln 1 hard;"
        "chmod 2711 .; chown 5:6 1; chmod 711 1; mv /usr/share/dpkg /usr/share/moved"
    )
    engine.podman("run", "--name", "work", TINY, "sh", "-ec", change)
    engine.podman("commit", "work", "localhost/changed:1")
    assert layers(engine, "localhost/changed:1")[:-1] == layers(engine, TINY)
    look = "cd /data; ls . sub; cat sub/new; stat -c '%a %u' .; stat -c '%a %u %g %h' 1;"
    look += "cd /usr/share; ls . moved"
    said = run(engine, "localhost/changed:1", look).split("\n")
    assert said == [
        *(".:", "1", "hard", "sub", "", "sub:", "new", "new"),
        *("2711 0", "711 5 6 2", ".:", "moved", ""),
        *("moved:", "abitable", "cputable", "ostable", "tupletable", ""),
    ]
    engine.podman("rmi", "localhost/changed:1", "--force")


CONTAINERFILE = """
FROM localhost/tiny:1 AS first
RUN mkdir /made && echo one >/made/file && rm /data/three
RUN rm -rf /data/sub && mkdir /data/sub && dpkg -i /root/hello_1.0.deb
COPY context /context
FROM localhost/tiny:1
COPY --from=first /made /made
COPY --from=first /data /copied
RUN cat /made/file && ls -l /copied >/made/listing
"""


def test_build_in_stages_and_from_the_cache(engine: Engine, tmp_path: Path):
    (tmp_path / "Containerfile").write_text(CONTAINERFILE)
    (tmp_path / "context").write_text("from the context\n")
    build = ("build", "--layers", "--network", "none", "-t", "localhost/built:1")
    first = engine.podman(*build, tmp_path)
    assert "Using cache" not in first
    look = "cat /made/file; ls /copied /copied/sub; cat /data/three"
    assert run(engine, "localhost/built:1", look).split() == [
        *("one", "/copied:", "one", "sub", "/copied/sub:", "three")
    ]
    again = engine.podman(*build, tmp_path)
    assert again.count("Using cache") == 6
    (tmp_path / "context").write_text("changed\n")
    (tmp_path / "Containerfile").write_text(CONTAINERFILE.partition("FROM localhost/tiny:1\n")[0])
    third = engine.podman(*build[:-1], "localhost/first:1", tmp_path)
    assert third.count("Using cache") == 2
    said = run(engine, "localhost/first:1", "cat /context /var/lib/hello; ls -A /data/sub")
    assert said.split() == ["changed", "configured"]
    engine.podman("rmi", "--force", "localhost/built:1", "localhost/first:1")


def test_buildah_and_skopeo(engine: Engine, tmp_path: Path):
    change_with_buildah(engine, tmp_path)
    said = run(engine, "localhost/again:1", "cat /copied/file; ls -A /data /data/sub")
    assert said.split() == ["copied", "/data:", "one", "sub", "three", "/data/sub:"]
    engine.podman("rmi", "localhost/again:1")


def test_sixty_layers(engine: Engine, images: Images):
    engine.run("skopeo", "copy", f"oci:{images.tall}", "containers-storage:localhost/tall:1")
    assert len(layers(engine, "localhost/tall:1")) == LAYERS
    text = "cat /steps/last; echo new >/steps/1; rm /steps/2; ls /steps"
    said = run(engine, "localhost/tall:1", text).split()
    assert said[0] == f"{LAYERS - 1}"
    assert sorted(said[1:]) == sorted(["1", "last", *map(str, range(3, LAYERS))])
    engine.podman("rmi", "localhost/tall:1")


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
    def directories():
        return {name for name in os.listdir(engine.storage / "overlay") if len(name) == 64}

    before = directories()
    engine.podman("create", "--name", "work", TINY, "true")
    engine.podman("commit", "work", "localhost/short:1")
    assert len(directories()) == len(before) + 2
    engine.podman("rm", "work")
    engine.podman("rmi", "localhost/short:1")
    assert directories() == before


def test_named_on_the_command_line(engine: Engine, tmp_path: Path):
    """``--storage-opt overlay.mount_program=`` instead of a line in storage.conf."""
    program = engine.place / "unionfs"
    (tmp_path / "other").symlink_to(program)
    words = ("--storage-driver", "overlay", "--storage-opt")
    option = f"overlay.mount_program={tmp_path}/other"
    engine.podman(*words, option, "run", "-d", "--name", "c", TINY, "sleep", "1000")
    assert engine.sh("c", "cat /data/three") == "three\n"
    (point,) = engine.mounts()
    assert any(f"{tmp_path}/other".encode() in words for words in serving(point))


def serving(point: bytes) -> list[bytes]:
    """Return the command lines of the processes that were told to mount at *point*."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", pid, "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words.rstrip(b"\0").endswith(point):
            found.append(words)
    return found

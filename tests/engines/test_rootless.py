"""Podman, Buildah and Skopeo of an ordinary user with subordinate IDs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_images import Images, change_with_buildah
from tests.support.engines import Engine, UsersEngine, mount_program, short_directory
from tests.support.ordinary import GID, NAME, UID, User

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

TINY = "localhost/tiny:1"


@pytest.fixture(scope="module")
def mine(user: User, images: Images) -> Iterator[Engine]:
    """The user's engines with the image ``localhost/tiny:1``."""
    images.tiny.parent.chmod(0o755)
    place = folder(user, "engine")
    path = user.env["PYTHONPATH"].split(":")
    with short_directory(UID) as short:
        engine = UsersEngine(place, short, mount_program(place, user.python, path), user.run)
        engine.podman("load", "-i", images.tiny)
        yield engine
        engine.close()


@pytest.fixture(autouse=True)
def nothing_mounted(mine: Engine):
    yield
    mine.clear()
    assert mine.mounts() == []


def folder(user: User, name: str) -> Path:
    """Make a directory of the user's."""
    path = user.home / name
    path.mkdir()
    os.chown(path, UID, GID)
    return path


def run(engine: Engine, image: str, script: str, *words: str | Path) -> str:
    return engine.podman("run", "--rm", *words, image, "sh", "-ec", script)


def test_a_container_from_its_start_to_a_commit(mine: Engine):
    """Files are written, users and packages come, a directory is made anew, all is kept."""
    mine.podman("run", "-d", "--name", "web", TINY, "sleep", "1000")
    assert len(mine.mounts()) == 1
    mine.sh(
        "web",
        "useradd bob; dpkg -i /root/hello_1.0.deb; chown 12:34 /data/one; chmod 4711 /data/one",
    )
    mine.podman("restart", "--time", "0", "web")
    mine.sh("web", "cd /data; rm -rf sub; mkdir sub; echo new >sub/new; rm three; ln one hard")
    changes = {line for line in mine.diff("web") if "/data" in line}
    assert changes == {
        *("C /data", "C /data/one", "A /data/hard", "D /data/three"),
        *("C /data/sub", "D /data/sub/deep", "A /data/sub/new"),
    }
    mine.podman("commit", "web", "localhost/changed:1")
    look = "cd /data; ls . sub; stat -c '%u %g %a %h' one; cat /var/lib/hello; id -u bob"
    assert run(mine, "localhost/changed:1", look).splitlines() == [
        *(".:", "hard", "one", "sub", "", "sub:", "new", "12 34 4711 2", "configured"),
        "1001",
    ]
    mine.podman("rmi", "--force", "localhost/changed:1")


def test_the_user_is_himself_in_the_container(mine: Engine):
    said = run(mine, TINY, "id -un; touch /tmp/x; stat -c %u /tmp/x /data/one", "--userns=keep-id")
    assert said.split() == [NAME, str(UID), "0"]


def test_cp_and_an_overlay_volume(mine: Engine, user: User):
    volume = folder(user, "volume")
    (volume / "kept").write_text("kept\n")
    script = "cd /vol; cat kept; echo new >kept; touch more"
    assert run(mine, TINY, script, "-v", f"{volume}:/vol:O") == "kept\n"
    assert (os.listdir(volume), (volume / "kept").read_text()) == (["kept"], "kept\n")
    mine.podman("create", "--name", "box", TINY, "true")
    mine.podman("cp", volume, "box:/data/got")
    mine.podman("cp", "box:/data", user.home / "out")
    assert (user.home / "out" / "got" / "kept").read_text() == "kept\n"


def test_build(mine: Engine, user: User):
    context = folder(user, "context")
    (context / "Containerfile").write_text(
        f"FROM {TINY} AS first\nRUN rm -rf /data/sub && mkdir /data/sub && chown 7:8 /data/one\n"
        f"FROM {TINY}\nCOPY --from=first /data /copied\n"
    )
    mine.podman("build", "--layers", "--network", "none", "-t", "localhost/built:1", context)
    said = run(mine, "localhost/built:1", "stat -c '%u %g' /copied/one; ls /copied /copied/sub")
    assert said.split() == ["7", "8", "/copied:", "one", "sub", "three", "/copied/sub:"]
    mine.podman("rmi", "--force", "localhost/built:1")


def test_buildah_and_skopeo(mine: Engine, user: User):
    change_with_buildah(mine, folder(user, "buildah"))
    said = run(mine, "localhost/again:1", "cat /copied/file; ls -A /data /data/sub")
    assert said.split() == ["copied", "/data:", "one", "sub", "three", "/data/sub:"]
    mine.podman("rmi", "localhost/again:1")

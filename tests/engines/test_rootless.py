"""Podman, Buildah and Skopeo of an ordinary user with subordinate IDs."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import engine_checks
from tests.support.engine_checks import TINY
from tests.support.engine_images import Images, change_with_buildah
from tests.support.engines import Engine, UsersEngine, mount_program, short_directory, soon
from tests.support.ordinary import GID, NAME, UID, User
from tests.support.resident import COMPILED

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


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


def test_a_container_from_its_start_to_a_commit(mine: Engine):
    """Files are written, users and packages come, a directory is made anew, all is kept."""
    mine.podman("run", "-d", "--name", "web", TINY, "sleep", "1000")
    assert len(mine.mounts()) == 1
    engine_checks.programs_that_install(mine, "web")
    mine.sh("web", "chown 12:34 /data/one; chmod 4711 /data/one")
    mine.podman("restart", "--time", "0", "web")
    mine.sh("web", "cd /data; rm -rf sub; mkdir sub; echo new >sub/new; rm three; ln one hard")
    changes = {line for line in mine.diff("web") if "/data" in line}
    assert changes == {
        *("C /data", "C /data/one", "A /data/hard", "D /data/three"),
        *("C /data/sub", "D /data/sub/deep", "A /data/sub/new"),
    }
    mine.podman("commit", "web", "localhost/changed:1")
    look = "cd /data; ls . sub; stat -c '%u %g %a %h' one; cat /var/lib/hello; id -u bob"
    assert mine.once("localhost/changed:1", look).splitlines() == [
        *(".:", "hard", "one", "sub", "", "sub:", "new", "12 34 4711 2", "configured"),
        "1001",
    ]
    mine.podman("rmi", "--force", "localhost/changed:1")


def test_the_user_is_himself_in_the_container(mine: Engine):
    said = mine.once(TINY, "id -un; touch /tmp/x; stat -c %u /tmp/x /data/one", "--userns=keep-id")
    assert said.split() == [NAME, str(UID), "0"]


def test_cp_and_an_overlay_volume(mine: Engine, user: User):
    volume = folder(user, "volume")
    (volume / "kept").write_text("kept\n")
    script = "cd /vol; cat kept; echo new >kept; touch more"
    assert mine.once(TINY, script, "-v", f"{volume}:/vol:O") == "kept\n"
    assert (os.listdir(volume), (volume / "kept").read_text()) == (["kept"], "kept\n")
    mine.podman("create", "--name", "box", TINY, "true")
    mine.podman("cp", volume, "box:/data/got")
    mine.podman("cp", "box:/data", user.home / "out")
    assert (user.home / "out" / "got" / "kept").read_text() == "kept\n"


def test_build_in_stages_and_from_the_cache(mine: Engine, user: User):
    engine_checks.build_in_stages_and_from_the_cache(mine, folder(user, "context"))


def test_a_read_only_container(mine: Engine):
    engine_checks.a_read_only_container(mine)


def test_several_at_once(mine: Engine):
    engine_checks.several_at_once(mine)


def test_sixty_layers(mine: Engine, images: Images):
    engine_checks.sixty_layers(mine, images)


def test_an_image_is_removed_and_its_layers_with_it(mine: Engine):
    engine_checks.layers_go_with_their_image(mine)


LOOK_AT_AN_IMAGE = """
at=$(podman image mount $0)
grep -c " $at fuse.unionfs " /proc/self/mounts
ls $at/data
! touch $at/data/new
podman image umount $0 >&2
"""


def test_an_image_is_mounted_and_looked_at(mine: Engine):
    """For a user that is in the namespace of his engine."""
    done = mine.run("podman", "unshare", "sh", "-ec", LOOK_AT_AN_IMAGE, TINY)
    assert done.stdout.split() == ["1", "one", "sub", "three"]
    assert "Read-only" in done.stderr


def test_buildah_and_skopeo(mine: Engine, user: User):
    change_with_buildah(mine, folder(user, "buildah"))
    said = mine.once("localhost/again:1", "cat /copied/file; ls -A /data /data/sub")
    assert said.split() == ["copied", "/data:", "one", "sub", "three", "/data/sub:"]
    mine.podman("rmi", "localhost/again:1")


@contextmanager
def served(mine: Engine, user: User) -> Iterator[tuple[Engine, bytes]]:
    """The same engines with the client in C, and a spawner in their namespaces, by its words."""
    place = folder(user, "client")
    program = shutil.copy(COMPILED, place)
    python = mount_program(place, user.python, user.env["PYTHONPATH"].split(":"), "unionfs-python")
    engine = UsersEngine(mine.place, mine.short, program, user.run, name="served")
    words = os.fsencode(f"{python}\0serve\0")
    with user.start("podman", "unshare", program, "serve", env=engine.env):
        assert soon((mine.short / "unionfs" / "serve").exists)
        [spawner] = having(words)
        try:
            yield engine, words
        finally:
            os.kill(spawner, signal.SIGTERM)


@pytest.mark.needs_extension
def test_with_a_resident_spawner(mine: Engine, user: User):
    """It is found where the user's is, though he is root where it is asked."""
    with served(mine, user) as (engine, words):
        engine.podman("run", "-d", "--name", "web", TINY, "sleep", "1000")
        assert engine.sh("web", "echo x >/data/new; cat /data/new") == "x\n"
        assert len(having(words)) == 2  # with the daemon, which keeps the spawner's words
        engine.clear()
        assert soon(lambda: len(having(words)) == 1)


def having(words: bytes) -> list[int]:
    """Return the processes whose command line ends so."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path("/proc", pid, "cmdline").read_bytes().endswith(words):
                found.append(int(pid))
        except OSError:
            continue  # it ended
    return found

"""What engines do alike for root and for an ordinary user, with images of ``engine_images``."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.engine_images import LAYERS, Images
from tests.support.engines import Engine, soon

TINY = "localhost/tiny:1"
_TALL = "localhost/tall:1"
_CONTAINERFILE = """
FROM localhost/tiny:1 AS first
RUN mkdir /made && echo one >/made/file && rm /data/three && chown 7:8 /data/one && \
    rm -rf /data/sub && mkdir /data/sub && dpkg -i /root/hello_1.0.deb
COPY context /context
FROM localhost/tiny:1
COPY --from=first /made /data /copied/
RUN rm /copied/file && ls -A /copied >/listing
"""
_FIRST_STAGE = _CONTAINERFILE.partition("FROM localhost/tiny:1\n")[0]


def programs_that_install(engine: Engine, name: str) -> None:
    """A user, a package by dpkg, the same by apt-get: locks, renames, links and fsync."""
    engine.sh(name, "useradd --create-home bob")
    said = engine.sh(name, "id bob; ls -d /home/bob; dpkg -i /root/hello_1.0.deb >&2")
    assert said.startswith("uid=1001(bob)") and said.endswith("\n/home/bob\n")
    there = "cat /usr/share/hello/text /var/lib/hello"
    assert engine.sh(name, there) == "hello\nconfigured\n"
    assert engine.sh(name, "dpkg -P hello >&2; rm /var/lib/hello; ls /usr/share") == "dpkg\n"
    said = engine.sh(name, f"apt-get install -y /root/hello_1.0.deb >&2; {there}")
    assert said == "hello\nconfigured\n"


def a_read_only_container(engine: Engine) -> None:
    """Podman gives it a writable /tmp; nothing else in it can be written."""
    text = "cat /data/one; echo x >/tmp/x; echo x >/data/x"
    done = engine.run("podman", "run", "--rm", "--read-only", TINY, "sh", "-ec", text, status=2)
    assert done.stdout == "one\n" and "Read-only file system" in done.stderr


def several_at_once(engine: Engine) -> None:
    """They share their image, and nothing else."""
    names = ["many1", "many2", "many3"]
    for name in names:
        text = f"echo {name} >/data/one; sleep 1000"
        engine.podman("run", "-d", "--name", name, TINY, "sh", "-c", text)
    assert len(engine.mounts()) == len(names)
    for name in names:
        assert soon(lambda name=name: engine.sh(name, "cat /data/one") == f"{name}\n")
    engine.podman("rm", "--force", "--time", "0", *names[:-1])
    assert engine.sh(names[-1], "cat /data/one") == f"{names[-1]}\n"
    engine.clear()
    assert engine.mounts() == []


def sixty_layers(engine: Engine, images: Images) -> None:
    """Skopeo brings the image into the store; every layer is seen, and can be changed."""
    engine.run("skopeo", "copy", f"oci:{images.tall}", f"containers-storage:{_TALL}")
    assert len(engine.layers(_TALL)) == LAYERS
    text = "cat /steps/last; echo new >/steps/1; rm /steps/2; ls /steps"
    said = engine.once(_TALL, text).split()
    assert said[0] == f"{LAYERS - 1}"
    assert sorted(said[1:]) == sorted(["1", "last", *map(str, range(3, LAYERS))])
    engine.podman("rmi", _TALL)


def build_in_stages_and_from_the_cache(engine: Engine, context: Path) -> None:
    """*context* is an empty directory that the engine's user may read."""
    (context / "Containerfile").write_text(_CONTAINERFILE)
    (context / "context").write_text("from the context\n")
    build = ("build", "--layers", "--network", "none", "-t", "localhost/built:1")
    assert "Using cache" not in engine.podman(*build, context)
    look = "cat /listing; stat -c '%u %g' /copied/one; ls /copied/sub; cat /data/three"
    assert engine.once("localhost/built:1", look).split() == ["one", "sub", "7", "8", "three"]
    assert engine.podman(*build, context).count("Using cache") == 4
    (context / "context").write_text("changed\n")
    (context / "Containerfile").write_text(_FIRST_STAGE)
    again = engine.podman(*build[:-1], "localhost/first:1", context)
    assert again.count("Using cache") == 1
    said = engine.once("localhost/first:1", "cat /context /var/lib/hello; ls -A /data/sub")
    assert said.split() == ["changed", "configured"]
    engine.podman("rmi", "--force", "localhost/built:1", "localhost/first:1")


def layers_go_with_their_image(engine: Engine) -> None:
    """A committed layer is there until its image is removed; others stay."""

    def directories() -> set[str]:
        return {name for name in os.listdir(engine.storage / "overlay") if len(name) == 64}

    before = directories()
    engine.podman("create", "--name", "work", TINY, "true")
    engine.podman("commit", "work", "localhost/short:1")
    assert len(directories()) == len(before) + 2
    engine.podman("rm", "work")
    engine.podman("rmi", "localhost/short:1")
    assert directories() == before

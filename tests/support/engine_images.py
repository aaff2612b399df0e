"""Images for engines, made of this machine's programs: nothing is fetched."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import NamedTuple

from tests.support.debs import Package, make_database
from tests.support.engines import Engine
from tests.support.images import Json, Layout, config, named
from tests.support.tars import file, tar
from tests.support.tinyroot import make_root

LAYERS = 60
PROGRAMS = (
    *("chmod", "chown", "cp", "diff", "dpkg", "dpkg-deb", "dpkg-query", "dpkg-split", "ldconfig"),
    *("ln", "start-stop-daemon", "stat", "tar", "touch", "true", "useradd"),
    *("apt-get", "/usr/lib/apt/methods/copy", "/usr/lib/apt/methods/file"),
)
_DIRECTORIES = (
    *("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "usr/share/dpkg"),
    *("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log/apt", "data/sub"),
)
_APT = b'APT::Sandbox::User "root";\nDir::Log "/dev/null";\nDPkg::Use-Pty "0";\n'


def make_engine_root(root: Path) -> None:
    """Fill *root* with what the tests run in containers: dpkg, apt-get and useradd among it.

    ``/data`` has files to change, ``/root/hello_1.0.deb`` is a package to install.
    """
    make_root(str(root), PROGRAMS)
    make_database(os.fsencode(root))
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name in ("usr/bin", "usr/sbin", "sbin"):
        (root / name).symlink_to("/bin")
    for name in ("cputable", "ostable", "tupletable", "abitable"):
        (root / "usr/share/dpkg" / name).write_bytes(Path("/usr/share/dpkg", name).read_bytes())
    (root / "etc/apt/apt.conf").write_bytes(_APT)
    for name in ("one", "two", "sub/deep"):
        (root / "data" / name).write_text(f"{name}\n")
    package = Package(
        "hello",
        "1.0",
        files={b"usr/share/hello/text": b"hello\n"},
        scripts={"postinst": b"echo configured >/var/lib/hello\n"},
    )
    package.build(os.fsencode(root / "root"))


def change_with_buildah(engine: Engine, place: Path) -> None:
    """Change ``localhost/tiny:1`` with Buildah, and take it out of the store and in with Skopeo.

    It comes in as ``localhost/again:1``. *place* is a directory of whoever the engine is.
    """

    def buildah(*words: str | Path) -> str:
        return engine.run("buildah", *words).stdout.strip()

    name = buildah("from", "localhost/tiny:1")
    buildah("run", "--network", "none", name, "sh", "-c", "rm -rf /data/sub; mkdir /data/sub")
    (place / "file").write_text("copied\n")
    buildah("copy", name, place, "/copied")
    buildah("commit", "--rm", name, "localhost/buildah:1")
    out = f"oci:{place}/layout:1"
    engine.run("skopeo", "copy", "containers-storage:localhost/buildah:1", out)
    engine.podman("rmi", "localhost/buildah:1")
    engine.run("skopeo", "copy", out, "containers-storage:localhost/again:1")


class Images(NamedTuple):
    """``localhost/tiny:1`` as an OCI archive, and a layout with ``localhost/tall:1``."""

    tiny: Path
    tall: Path


def make_images(place: Path) -> Images:
    """Make images in *place*.

    ``tiny`` is of two layers, the second of which hides ``/data/two``. ``tall`` has LAYERS of
    them, each with a file of its own, and one file that they all change.
    """
    root = place / "root"
    root.mkdir()
    make_engine_root(root)
    base = _pack(root, place / "root.tar")
    second = tar(file("data/.wh.two", b""), file("data/three", b"three\n"))
    many = [
        tar(file(f"steps/{n}", b"%d\n" % n), file("steps/last", b"%d\n" % n))
        for n in range(1, LAYERS)
    ]
    tiny, tall = Layout(place / "tiny"), Layout(place / "tall")
    tiny.index(_image(tiny, "localhost/tiny:1", base, second))
    tall.index(_image(tall, "localhost/tall:1", base, *many))
    return Images(tiny.archive(place / "tiny.tar"), tall.path)


def _image(layout: Layout, name: str, *tars: bytes) -> Json:
    """Builds need a line of history for each layer."""
    document = config(tars, history=[{"created_by": f"layer {n}"} for n in range(len(tars))])
    return layout.image(tars, suffix="", document=document, **named(name))


def _pack(root: Path, path: Path) -> bytes:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, ".")
    return path.read_bytes()

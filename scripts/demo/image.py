"""Make the demo's image: a real Debian system in five layers, packed as an OCI layout.

    python -m scripts.demo.image        (as root, in a mount namespace of its own: see `make demo`)

The base is debootstrap's; every other layer is what happened in the upper directory of a kernel
overlayfs while real programs worked in it, so the layers hold what layers of the field hold. All
of it stays in the cache, with a `complete` file written last, and is made once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

from scripts.demo.mirror import Mirror, NoMirrorError, this_machines_mirror
from unionfs.image.writer import pack_layout
from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls.mount import MNT_DETACH, mount, umount

_REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get("UNIONFS_CACHE") or os.path.join(_REPO, ".cache")

# An image's layers know no redirects and no link index: a rename of a lower directory is copied.
_PLAIN_LAYERS = "redirect_dir=off,metacopy=off,index=off,xino=off"
_COMPILER = ("gcc", "libc6-dev", "libcap2-bin", "hello")
_TOOLS = ("python3", "perl", "git", "vim", "ncurses-term")
_DEVICES = ("null", "zero", "random", "urandom")

_TIDY = """
rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old      # names that only lower layers have
rm -rf /usr/share/locale && mkdir /usr/share/locale       # a directory made again: opaque
rm -rf /usr/share/doc/base-files && echo moved > /usr/share/doc/base-files  # directory to file
rm /etc/motd && mkdir /etc/motd && echo hi > /etc/motd/01-greeting          # file to directory
mv /usr/share/common-licenses /usr/share/licenses         # a renamed directory
rm /etc/issue && ln -s os-release /etc/issue              # a file to a symbolic link
"""
_APPLICATION = """
chmod 0750 /root /var/log && chmod 1777 /srv && chmod 2775 /opt
chown 33:33 /srv && chown -R 1000:1000 /mnt && chmod u+s /usr/bin/hello
mkdir -p /srv/app/data
echo 'print("an application in the top layer")' > /srv/app/main.py
ln /srv/app/main.py /srv/app/also-main.py                 # two names of one new file
ln /usr/bin/hello /usr/local/bin/hello                    # two names of a lower file
cp /bin/cat /srv/app/reader && setcap cap_dac_read_search+ep /srv/app/reader
truncate -s 64M /srv/app/data/sparse && echo end >> /srv/app/data/sparse
mkfifo /srv/app/data/queue && mknod /srv/app/data/null c 1 3
ln -s ../main.py /srv/app/data/link && touch -d '1999-12-31 23:59:58' /srv/app/main.py
"""


def layout() -> str:
    """Return where the finished image is, or would be: an OCI layout directory."""
    return os.path.join(CACHE, "demo", "oci")


def layers() -> list[str]:
    """Return the image's layer directories in overlayfs's own format, the topmost first."""
    top = os.path.join(CACHE, "demo", "layers")
    return [os.path.join(top, name) for name in sorted(os.listdir(top), reverse=True)]


def is_made() -> bool:
    """Tell whether the image is in the cache, whole."""
    return os.path.exists(os.path.join(CACHE, "demo", "complete"))


def make() -> None:
    """Make the image in the cache. Raises OSError, CalledProcessError, NoMirrorError."""
    place = os.path.join(CACHE, "demo")
    if os.path.exists(place):
        shutil.rmtree(place)  # of a run that did not finish
    os.makedirs(os.path.join(place, "layers"))
    mirror = this_machines_mirror()
    steps: list[tuple[str, str, Callable[[str], None]]] = [
        ("base", f"{mirror.distribution} {mirror.suite} (debootstrap)", _base(mirror)),
        ("compiler", " ".join(_COMPILER), _packages(_COMPILER)),
        ("tools", " ".join(_TOOLS), _packages(_TOOLS)),
        ("tidy", "deletes, replaces and renames what lower layers hold", _script(_TIDY)),
        ("application", "modes, owners, hard links, a capability", _script(_APPLICATION)),
    ]
    made: list[str] = []
    for number, (name, told, fill) in enumerate(steps):
        print(f"    layer {number + 1} of {len(steps)}: {name}: {told}", flush=True)
        made.insert(0, _layer(place, f"{number}-{name}", made, fill))
    print("    packing the layers", flush=True)
    history = [f"{name}: {told}" for name, told, _ in steps]
    pack_layout(
        layout(), made[::-1], flavour=Flavour.TRUSTED, run_config=_config(mirror), history=history
    )
    with open(os.path.join(place, "complete"), "x", encoding="utf-8"):
        pass


def _layer(place: str, name: str, below: list[str], fill: Callable[[str], None]) -> str:
    """Let *fill* work on a mount of the layers *below*; return the directory of what it changed."""
    upper = os.path.join(place, "layers", name)
    os.mkdir(upper, 0o755)
    if not below:
        fill(upper)
        return upper
    with tempfile.TemporaryDirectory(dir=place, prefix=f"{name}.") as scratch:
        work, merged = os.path.join(scratch, "work"), os.path.join(scratch, "merged")
        os.mkdir(work)
        os.mkdir(merged)
        data = f"lowerdir={':'.join(below)},upperdir={upper},workdir={work},{_PLAIN_LAYERS}"
        with _mounted("overlay", merged, "overlay", data), _ready_to_run(merged):
            fill(merged)
    _forget_the_mount(upper)
    return upper


def _forget_the_mount(layer: str) -> None:
    """Remove what tied the directory to one mount: origins, impure marks, the mount's UUID.

    What says something about the layer's content, whiteouts and opaque marks, stays.
    """
    for here, directories, files in os.walk(layer):
        for path in (here, *(os.path.join(here, name) for name in directories + files)):
            for name in os.listxattr(path, follow_symlinks=False):
                if name.startswith("trusted.overlay.") and name != "trusted.overlay.opaque":
                    os.removexattr(path, name, follow_symlinks=False)


@contextlib.contextmanager
def _mounted(source: str, target: str, kind: str, data: str = "") -> Iterator[None]:
    mount(source.encode(), os.fsencode(target), kind.encode(), 0, os.fsencode(data))
    try:
        yield
    finally:
        umount(os.fsencode(target), MNT_DETACH)


@contextlib.contextmanager
def _ready_to_run(root: str) -> Iterator[None]:
    """Give programs in *root* a /proc and the devices they expect, on mounts of their own."""
    with (
        _mounted("proc", os.path.join(root, "proc"), "proc"),
        _mounted("dev", os.path.join(root, "dev"), "tmpfs", "mode=755"),
    ):
        for name in _DEVICES:
            node = os.path.join(root, "dev", name)
            os.mknod(node, 0o666 | 0o020000, os.stat(f"/dev/{name}").st_rdev)
            os.chmod(node, 0o666)
        yield


def _base(mirror: Mirror) -> Callable[[str], None]:
    words = ["debootstrap", "--variant=minbase", f"--keyring={mirror.keyring}", mirror.suite]
    return lambda root: _quietly([*words, root, mirror.uri])


def _packages(names: tuple[str, ...]) -> Callable[[str], None]:
    install = "apt-get -qq install -y --no-install-recommends " + " ".join(names)
    fetch_lists = "[ -e /var/lib/apt/lists/lock ] || apt-get -qq update"
    return _script(f"{fetch_lists}\n{install}\napt-get clean\n")


def _script(text: str) -> Callable[[str], None]:
    return lambda root: _quietly(["chroot", root, "/bin/sh", "-euc", text])


def _quietly(words: list[str]) -> None:
    """Run a command whose output is only of interest when it fails."""
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        **{name: value for name, value in os.environ.items() if name.endswith("_proxy")},
    }
    run = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    if run.returncode:
        sys.stderr.buffer.write(run.stdout[-4000:] + run.stderr[-4000:])
        raise subprocess.CalledProcessError(run.returncode, words[0])


def _config(mirror: Mirror) -> dict[str, object]:
    return {
        "Cmd": ["/bin/bash"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "WorkingDir": "/root",
        "Labels": {"org.opencontainers.image.title": f"{mirror.distribution} {mirror.suite} demo"},
    }


if __name__ == "__main__":
    try:
        make()
    except (OSError, subprocess.CalledProcessError, NoMirrorError) as error:
        sys.exit(f"demo: the image could not be made: {error}")

"""dpkg in the mount: installs, upgrades and removes in a root that is partly in lower layers."""

from __future__ import annotations

import os

import pytest

from tests.support import trees
from tests.support.debs import Package, dpkg, make_database
from tests.support.examples import FULL
from tests.support.files import read, write
from tests.support.fixtures import COMPARED
from tests.support.stacks import Dir, Layers, build_stack
from tests.support.tinyroot import make_root

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    *COMPARED,
    pytest.mark.timeout(1800 if FULL else 300),
]

FILES = 2_000 if FULL else 40  # of the larger package
ROUNDS = 5 if FULL else 1
FIELDS = [field for field in trees.FIELDS if field != "mtime"]


def _alpha(version: int) -> Package:
    """Each version has other files; a directory of the odd ones is a link in the even ones."""
    files = {
        b"usr/bin/alpha": b"#!/bin/sh\necho alpha %d\n" % version,
        b"etc/alpha/alpha.conf": b"version %d\n" % version,
        b"usr/share/alpha/big": b"%d" % version * 300_000,
        b"usr/lib/alpha/v%d/inside" % version: b"inside",
    }
    for n in range(FILES):
        if n % 5 != version % 5:
            files[b"usr/share/alpha/%d" % n] = b"file %d of %d\n" % (n, version if n % 2 else 0)
    folder = b"usr/share/doc/alpha"
    symlinks = {b"usr/share/alpha/current": b"../../lib/alpha/v%d" % version}
    if version % 2:
        files[folder + b"/changelog"] = b"changes"
    else:
        files[b"usr/share/common-doc/changelog"] = b"changes"
        symlinks[b"usr/share/alpha/doc"] = b"../common-doc"
    return Package(
        "alpha",
        f"{version}",
        files,
        symlinks,
        hard={b"usr/bin/alpha-again": b"usr/bin/alpha", b"usr/lib/alpha/a": b"usr/bin/alpha"},
        modes={b"usr/bin/alpha": 0o4755},
        conffiles=(b"etc/alpha/alpha.conf",),
        scripts={
            "postinst": b'echo "$1" >> /var/log/alpha\nls /usr/lib/alpha > /var/log/alpha-files\n',
            "prerm": b"mv /var/log/alpha-files /var/log/alpha-files-old\n",
            "postrm": b'if [ "$1" = purge ]; then rm -rf /var/log/alpha*; fi\n',
        },
    )


def _beta(version: int, *, takes_over: bool = False) -> Package:
    """One that depends on alpha, and in its newest version takes one of its files over."""
    files = {b"usr/bin/beta": b"beta %d" % version, b"usr/share/beta/one/two/three": b"deep"}
    relations = "Depends: alpha\n"
    if takes_over:
        files[b"usr/share/alpha/big"] = b"now beta's"
        relations += "Replaces: alpha\n"
    return Package("beta", f"{version}", files, relations=relations)


@pytest.fixture
def debs(scratch) -> dict[str, bytes]:
    folder = scratch + b"/debs"
    os.mkdir(folder)
    versions = range(1, 2 * ROUNDS + 2)
    packages = [*map(_alpha, versions), _beta(1), _beta(2, takes_over=True)]
    return {f"{each.name}{each.version}": each.build(folder) for each in packages}


def _make_base(root: bytes, debs: dict[str, bytes]) -> None:
    """What is in the lowest layer."""
    make_root(os.fsdecode(root))
    make_database(root)
    dpkg(root, "-i", debs["alpha1"])


def _add_layer(root: bytes, debs: dict[str, bytes]) -> None:
    """What is in the layer above."""
    dpkg(root, "-i", debs["beta1"])
    write(root + b"/etc/alpha/alpha.conf", b"changed by hand\n")


def _work(root: bytes, debs: dict[str, bytes]) -> list[bytes]:
    """Upgrade, divert, remove, purge, install again; return what dpkg thinks of it."""
    seen = []
    for version in range(2, 2 * ROUNDS + 2):
        dpkg(root, "-i", "--force-confold", debs[f"alpha{version}"])
        seen.append(read(root + b"/etc/alpha/alpha.conf"))
        seen.append(dpkg(root, "--verify"))
    dpkg(
        root,
        *("--divert", b"/usr/bin/alpha.real", "--rename", "--add", "/usr/bin/alpha"),
        program=b"dpkg-divert",
    )
    dpkg(root, "-i", debs["beta2"])
    dpkg(root, "-i", "--force-confnew", "--force-downgrade", debs["alpha1"])
    seen.append(dpkg(root, "--verify"))
    dpkg(root, "-r", "beta")
    dpkg(root, "-P", "alpha")
    seen.append(b"\n".join(sorted(os.listdir(root))))  # /usr, too, is gone
    dpkg(root, "-i", debs["alpha2"], debs["beta1"])
    dpkg(root, "-r", "beta")
    return [*seen, *_opinion(root)]


def _opinion(root: bytes) -> list[bytes]:
    listing = dpkg(root, "-W", "-f", "${Package} ${Version} ${Status}\n", program=b"dpkg-query")
    return [dpkg(root, "--verify"), dpkg(root, "--audit"), listing]


@pytest.fixture
def layers(scratch, union, debs) -> Layers:
    """A root in two lower layers, of which the upper one was made by a mount of ours."""
    made = build_stack(scratch + b"/s", [[Dir(b".")]])
    _make_base(made.lowers[0], debs)
    with union(made) as mounted:
        _add_layer(mounted.root, debs)
    return made.next_generation(scratch + b"/s")


def test_packages_come_and_go(mode, scratch, union, again, layers, debs):
    """As on a plain directory; after a remount as well, and for the kernel's overlayfs."""
    plain = scratch + b"/plain"
    os.mkdir(plain)
    _make_base(plain, debs)
    _add_layer(plain, debs)
    mounted = union(layers)
    assert _work(mounted.root, debs) == _work(plain, debs)
    trees.assert_same(
        trees.snapshot(plain), trees.snapshot(mounted.root), ("plain", "union"), fields=FIELDS
    )
    mounted.unmount()
    mounted = union(layers)
    assert _opinion(mounted.root) == _opinion(plain)
    ours = trees.snapshot(mounted.root)
    trees.assert_same(trees.snapshot(plain), ours, ("plain", "union again"), fields=FIELDS)
    mounted.unmount()
    trees.assert_same(ours, trees.snapshot(again(layers).root), ("union", "another mount"))

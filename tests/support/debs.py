"""Debian packages made on the spot, and dpkg at work in a root of our own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.files import write


@dataclass(frozen=True)
class Package:
    """A package: *files* by path from the root, each its content, or a link's target.

    *hard* are further names of files, *scripts* its maintainer scripts by name.
    """

    name: str
    version: str
    files: Mapping[bytes, bytes] = field(default_factory=dict)
    symlinks: Mapping[bytes, bytes] = field(default_factory=dict)
    hard: Mapping[bytes, bytes] = field(default_factory=dict)
    modes: Mapping[bytes, int] = field(default_factory=dict)
    conffiles: tuple[bytes, ...] = ()
    scripts: Mapping[str, bytes] = field(default_factory=dict)
    relations: str = ""

    def build(self, folder: bytes) -> bytes:
        """Make the .deb in *folder*; return its path."""
        tree = folder + b"/%b_%b" % (self.name.encode(), self.version.encode())
        for path, data in self.files.items():
            _make_parents(tree, path)
            write(tree + b"/" + path, data)
        for path, target in self.symlinks.items():
            _make_parents(tree, path)
            os.symlink(target, tree + b"/" + path)
        for path, target in self.hard.items():
            _make_parents(tree, path)
            os.link(tree + b"/" + target, tree + b"/" + path)
        for path, mode in self.modes.items():
            os.chmod(tree + b"/" + path, mode)
        self._write_control(tree + b"/DEBIAN")
        deb = tree + b".deb"
        words = [b"dpkg-deb", b"--root-owner-group", b"-Znone", b"-b", tree, deb]
        subprocess.run(words, check=True, capture_output=True)
        return deb

    def _write_control(self, control: bytes) -> None:
        os.makedirs(control)
        text = f"""Package: {self.name}
Version: {self.version}
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: made for a test
{self.relations}"""
        write(control + b"/control", text.encode())
        if self.conffiles:
            write(control + b"/conffiles", b"".join(b"/%b\n" % path for path in self.conffiles))
        for name, script in self.scripts.items():
            write(control + b"/" + name.encode(), b"#!/bin/sh\nset -e\n" + script)
            os.chmod(control + b"/" + name.encode(), 0o755)


def _make_parents(tree: bytes, path: bytes) -> None:
    os.makedirs(os.path.dirname(tree + b"/" + path), exist_ok=True)


def make_database(root: bytes) -> None:
    """Make *root* one where dpkg can work."""
    for path in (b"info", b"updates", b"triggers", b"parts"):
        os.makedirs(root + b"/var/lib/dpkg/" + path)
    os.makedirs(root + b"/var/log")
    for name in (b"status", b"available", b"diversions"):
        write(root + b"/var/lib/dpkg/" + name, b"")


def dpkg(root: bytes, *words: str | bytes, program: bytes = b"dpkg") -> bytes:
    """Let dpkg do something in *root*; return what it printed."""
    done = subprocess.run(
        [program, b"--root=" + root, *words],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
    )
    assert done.returncode == 0, (words, done.stdout.decode())
    return done.stdout

"""Programs that cargo builds for us: fetched once, kept in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


class AbsentError(Exception):
    """Something that this machine does not have; the message is the reason."""


def program(cache: str, name: str, version: str) -> str:
    """Return the program *name* of the crate of that name, at *version*, which cargo installs.

    *version* is a requirement as cargo takes it; programs of several lie side by side. The first
    build takes a minute or more. Raises AbsentError.
    """
    root = os.path.join(cache, "cargo", f"{name}{version}")
    found = os.path.join(root, "bin", name)
    cargo = shutil.which("cargo")
    if os.path.exists(found):
        return found
    if cargo is None:
        raise AbsentError("there is no cargo to install it with")
    print(f"cargo installs {name} {version}", file=sys.stderr)
    words = [cargo, "install", "-q", "--locked", "--root", root, name, "--version", version]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise AbsentError(f"cargo could not install it: {last}")
    return found

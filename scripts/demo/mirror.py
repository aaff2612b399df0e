"""Where this machine's own distribution comes from: its suite, its mirror and its keyring."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

_KEYRINGS = "/usr/share/keyrings/{}-archive-keyring.gpg"
_ONE_TARGET_A_LINE = "$(REPO_URI) $(RELEASE) $(COMPONENT)"


class NoMirrorError(Exception):
    """This is not a Debian or Ubuntu machine with its own apt sources."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """What debootstrap needs to make the system that this machine runs."""

    distribution: str
    suite: str
    uri: str
    keyring: str


def this_machines_mirror() -> Mirror:
    """Return the mirror that apt uses for the running release. Raises NoMirrorError."""
    with open("/etc/os-release", encoding="utf-8") as file:
        release = parse_os_release(file.read())
    suite = release.get("VERSION_CODENAME", "")
    words = ["apt-get", "indextargets", "--format", _ONE_TARGET_A_LINE, "Created-By: Packages"]
    targets = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    uri = find_uri(targets, suite)
    keyring = _KEYRINGS.format(release.get("ID", ""))
    if uri is None or not os.path.exists(keyring):
        raise NoMirrorError(f"apt has no mirror and keyring for the release {suite or 'unknown'}")
    return Mirror(release["ID"], suite, uri, keyring)


def parse_os_release(text: str) -> dict[str, str]:
    """Return the assignments of an os-release(5) file."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value.strip("\"'") for name, _, value in pairs}


def find_uri(targets: str, suite: str) -> str | None:
    """Return the repository of *suite*'s main component from apt's list of index targets."""
    for line in targets.splitlines():
        words = line.split()
        if words[1:] == [suite, "main"]:
            return words[0]
    return None

"""A root filesystem small enough to make in every test: this machine's sh with its libraries."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache

PROGRAMS = ("sh", "cat", "id", "ls", "mkdir", "mv", "rm", "sleep")
_PATHS = re.compile(r"(/\S+) \(0x")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001:Alice:/home/alice:/bin/sh\n"
GROUP = "root:x:0:\nalice:x:1001:\nvideo:x:44:bob,alice\n"


def make_root(root: str, more: Iterable[str] = ()) -> None:
    """Fill the directory *root* with programs, their libraries, passwd and group.

    *more* are names of further programs, or absolute paths, which stay theirs.
    """
    for directory in ("bin", "dev", "etc", "home/alice", "proc", "root", "sys", "tmp"):
        os.makedirs(os.path.join(root, directory))
    os.chmod(root, 0o755)
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    if os.geteuid() == 0:
        os.chown(os.path.join(root, "home/alice"), 1000, 1001)
    for name in (*PROGRAMS, *more):
        source = os.path.realpath(shutil.which(name) or name)
        place = os.path.join(root, name.lstrip("/") if "/" in name else f"bin/{name}")
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.copy(source, place)
        for library in _libraries(source):
            target = root + library
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.exists(target):
                shutil.copy(library, target)
    _write(root, "etc/passwd", PASSWD)
    _write(root, "etc/group", GROUP)


@cache
def _libraries(program: str) -> tuple[str, ...]:
    found = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
    return tuple(_PATHS.findall(found.stdout))


def _write(root: str, path: str, text: str) -> None:
    with open(os.path.join(root, path), "w") as file:
        file.write(text)

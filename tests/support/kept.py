"""Layers turned into what a store of somebody who is not the machine's root has.

Owners, modes and types are in an attribute there (``unionfs.ondisk.override``).
"""

from __future__ import annotations

import os
import stat

from tests.support.mounts import OVERRIDE
from tests.support.stacks import Layers
from unionfs.ondisk import override
from unionfs.ondisk.override import Spelling


def keep_owners(layers: Layers) -> None:
    """Turn all lowers of *layers* that are not yet; symbolic links with one name only."""
    for lower in layers.lowers:
        if OVERRIDE in os.listxattr(lower):
            continue
        for here, directories, files in os.walk(lower, topdown=False):  # times stay
            for name in (*directories, *files):
                _keep(here + b"/" + name)
        _write_down(lower, os.lstat(lower))


def _keep(path: bytes) -> None:
    st = os.lstat(path)
    if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
        return  # a whiteout
    if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
        if OVERRIDE not in os.listxattr(path):  # by another name of it
            _write_down(path, st)
        return
    target = os.readlink(path) if stat.S_ISLNK(st.st_mode) else b""
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(target)
    _write_down(path, st)


def _write_down(path: bytes, st: os.stat_result) -> None:
    override.write(path, Spelling.CONTAINERS, override.of(st))
    os.chown(path, os.geteuid(), os.getegid())
    os.chmod(path, override.disk_mode(stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode)))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

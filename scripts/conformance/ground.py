"""Where the suite runs: an ext4 of its own, by itself and below each union filesystem.

The ext4 is in a file, because the tests of read-only filesystems remount what they run on. Needs a
mount namespace of its own (``make conformance``).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from scripts.bench.contenders import Contender, Stack

PLAIN = "ext4"
OURS = ("unionfs", "unionfs-owners", "unionfs-pure")
_UNIONFS = os.path.join(os.path.dirname(sys.executable), "unionfs")
_UNIONS = {
    "kernel": Contender(
        "kernel",
        ("mount", "-t", "overlay", "overlay"),
        ",redirect_dir=on,index=on,xino=on",
    ),
    "fuse-overlayfs": Contender("fuse-overlayfs", ("/usr/bin/fuse-overlayfs",)),
    "unionfs": Contender("unionfs", (_UNIONFS,)),
    "unionfs-owners": Contender("unionfs", (_UNIONFS,), ",xattr_permissions=2"),
    "unionfs-pure": Contender("unionfs", ("env", "UNIONFS_PURE=1", _UNIONFS)),
}
NAMES = (PLAIN, *_UNIONS)
_SIZE = "2G"  # sparse
_AT = "d"  # the tests run in a directory of the lower layer, which is copied up


@contextlib.contextmanager
def ground(name: str, place: str) -> Iterator[tuple[str, str]]:
    """Give directories of the filesystem *name* and of another one, for as long as the block lasts.

    *place*: where to mount. Raises OSError or SubprocessError where there is no such
    filesystem.
    """
    with contextlib.ExitStack() as stack:
        second = stack.enter_context(_mounted(place, "second", "-t", "tmpfs", "tmpfs"))
        image = os.path.join(place, "image")
        _do("truncate", "-s", _SIZE, image)
        stack.callback(os.unlink, image)
        _do("mkfs.ext4", "-q", "-F", image)
        disk = stack.enter_context(_mounted(place, "on", "-o", "loop", image))
        os.chmod(disk, 0o755)
        if name == PLAIN:
            yield disk, second
            return
        union = _stack(disk)
        stack.enter_context(_UNIONS[name].mounted(union))
        yield os.path.join(union.merged, _AT), second


@contextlib.contextmanager
def helper_of_mount(place: str) -> Iterator[None]:
    """Let mount(8), which remounts, find our helper where it looks, whatever is installed there.

    Raises OSError.
    """
    helpers = os.path.join(place, "helpers")
    os.mkdir(helpers)
    os.symlink(_UNIONFS, os.path.join(helpers, "mount.fuse.unionfs"))
    lowers = f"lowerdir={helpers}:/usr/sbin"
    _do("mount", "-t", "overlay", "overlay", "-o", lowers, "/usr/sbin")
    try:
        yield
    finally:
        _unmount("/usr/sbin")


@contextlib.contextmanager
def _mounted(place: str, name: str, *what: str) -> Iterator[str]:
    target = os.path.join(place, name)
    os.makedirs(target, exist_ok=True)
    _do("mount", *what, target)
    try:
        yield target
    finally:
        _unmount(target)


def _unmount(target: str) -> None:
    """Unmount *target*, whoever is still in it: a suite that took too long leaves processes."""
    _do("umount", "--lazy", target)


def _do(*words: str) -> None:
    """Run a command. Raises OSError with what it says."""
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise OSError(f"{words[0]} ended with {done.returncode}: {done.stderr.strip()}")


def _stack(disk: str) -> Stack:
    """Make a union's directories; the names are short, as the suite wants the path of its root."""
    lower, upper, work, merged = (os.path.join(disk, name) for name in ("l", "u", "w", "m"))
    for directory in (os.path.join(lower, _AT), upper, work, merged):
        os.makedirs(directory, 0o755)
    return Stack((lower,), upper, work, merged)

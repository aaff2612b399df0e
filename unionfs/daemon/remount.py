"""For ``mount -o remount``: a mount read-only, writable again, or with other flags.

The kernel does that by itself, and the daemon goes on as before: behind a read-only mount it is
asked for no change. What the daemon was started with cannot be changed, and is refused where it can
be seen to differ.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import replace

from unionfs.daemon import client
from unionfs.errors import RefusedError
from unionfs.options import MountConfig, absolute, apply_options
from unionfs.options.grammar import split_options
from unionfs.syscalls.mount import (
    MS_NOATIME,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    MountEntry,
    mount,
    mounts_at,
)
from unionfs.syscalls.xattr import get

REMOUNT = b"remount"
_STACK = b"user.unionfs.stack"
_FIELDS = {"lowers": "lowerdirs", "upper": "upperdir", "work": "workdir"}
_FLAGS = ("read_only", "suid", "dev", "exec_", "atime")
# What mount(8) repeats from the mount table and no option can change.
_REPEATED = ("user_id=", "group_id=", "rootmode=", "fd=")


class RemountError(RefusedError):
    """A mount cannot become what is asked for."""


def is_asked(words: Sequence[str]) -> bool:
    """Return whether the ``-o`` arguments *words* are about a mount that is there already."""
    return any(REMOUNT in split_options(os.fsencode(word)) for word in words)


def remount(target: bytes, words: Sequence[str], *, privileged: bool) -> Sequence[str]:
    """Change the mount of unionfs on *target* as the ``-o`` arguments *words* say.

    Returns the options that are ignored. Raises NotMountedError, RemountError for what cannot be
    changed, BadOptionError, and OSError: EPERM for who is not root.
    """
    point = client.resolve(target)
    if not client.is_ours(point):
        raise client.NotMountedError(f"{os.fsdecode(target)} is not a mount of unionfs")
    entry = mounts_at(point)[-1]
    now = _flags_of(entry)
    options = _without_remount(words)
    config = apply_options(now, options, privileged=privileged)
    _refuse_other_layers(point, absolute(config, os.getcwdb()))
    _change(entry, config)
    if now.read_only and not config.read_only and not _takes_changes(point):
        _change(entry, replace(config, read_only=True))
        raise RemountError(f"{os.fsdecode(target)} has no upper directory to write to")
    return [o for o in options if not _is_done(now, o, privileged) and not o.startswith(_REPEATED)]


def _is_done(now: MountConfig, option: str, privileged: bool) -> bool:
    """Return whether nothing but what a remount changes, or keeps, is in *option*."""
    asked = apply_options(now, [option], privileged=privileged)
    kept = {name: getattr(now, name) for name in (*_FIELDS.values(), *_FLAGS)}
    return replace(asked, **kept) == now


def _flags_of(entry: MountEntry) -> MountConfig:
    """Return what can be changed of the mount *entry*, as it is."""
    options = entry.options.split(b",")
    superblock = entry.super_options.split(b",")
    return MountConfig(
        (),
        read_only=b"ro" in options or b"ro" in superblock,
        suid=b"nosuid" not in options,
        dev=b"nodev" not in options,
        exec_=b"noexec" not in options,
        atime=b"noatime" not in options,
        allow_other=b"allow_other" in superblock,
        default_permissions=True,
        fsname=os.fsdecode(entry.source),
        subtype=os.fsdecode(entry.kind.partition(b".")[2]),
    )


def _without_remount(words: Sequence[str]) -> list[str]:
    options = [option for word in words for option in split_options(os.fsencode(word))]
    return [os.fsdecode(option) for option in options if option != REMOUNT]


def _refuse_other_layers(point: bytes, config: MountConfig) -> None:
    """Raise RemountError where directories are named that are not those of the mount."""
    try:
        found = get(point, _STACK)
    except OSError:
        return  # the mount was asked to have no attributes
    stack = json.loads(found) if found else {}
    for name, field in _FIELDS.items():
        asked = getattr(config, field)
        paths = stack.get(name)
        if asked and paths is not None and asked != _as_bytes(paths):
            raise RemountError(
                f"remount cannot change {field.rstrip('s')}: unmount, and mount again"
            )


def _as_bytes(paths: str | Sequence[str]) -> bytes | tuple[bytes, ...]:
    if isinstance(paths, str):
        return os.fsencode(paths)
    return tuple(os.fsencode(path) for path in paths)


def _change(entry: MountEntry, config: MountConfig) -> None:
    flags = MS_REMOUNT
    for wanted, flag in (
        (config.read_only, MS_RDONLY),
        (not config.suid, MS_NOSUID),
        (not config.dev, MS_NODEV),
        (not config.exec_, MS_NOEXEC),
        (not config.atime, MS_NOATIME),
    ):
        flags |= flag if wanted else 0
    mount(entry.source, entry.target, entry.kind, flags)


def _takes_changes(point: bytes) -> bool:
    """Return whether the daemon would change something; this asks for a change that is none."""
    try:
        os.chown(point, -1, -1)
    except OSError as error:
        if error.errno == errno.EROFS:
            return False
        raise
    return True

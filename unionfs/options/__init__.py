"""``-o`` strings to a frozen ``MountConfig``: what a mount was asked to be.

Pure: nothing here touches a file system, so every rule can be tried with strings alone. Every
option that fuse-overlayfs, mount(8) and the container engines are known to pass is in one of the
tables below: honoured, meaningless (accepted quietly), ignored with a word, or refused by name.
How they are written is in ``options.grammar``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from unionfs.errors import RefusedError, UsageError
from unionfs.options.grammar import split_options, split_paths, unquoted

_MAX_ID = 2**32 - 2  # 2**32 - 1 is "no such ID" to the kernel

_LIMITS = {
    "readahead": 1 << 16,  # KiB; what a request can carry is far less
    "spin": 1000,  # microseconds; longer than any round trip that is worth waiting for awake
}


class BadOptionError(UsageError):
    """An option's value does not mean anything."""


class UnsupportedOptionError(RefusedError):
    """An option asks for what cannot be honoured and must not be left out silently."""


class IdRange(NamedTuple):
    """*size* consecutive IDs: what is *disk* on disk is *shown* in the mount, and so on."""

    disk: int
    shown: int
    size: int


class LowerName(NamedTuple):
    """What an image calls a layer: its *number* from the bottom (0: it is not one), its diffID."""

    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class MountConfig:
    """What one mount is asked to be.

    Paths are bytes as the caller wrote them, never normalised by their text: a link that one passes
    through must be followed by the kernel.
    """

    lowerdirs: tuple[bytes, ...]  # topmost first
    upperdir: bytes | None = None  # None: the mount is read-only
    workdir: bytes | None = None  # set exactly when upperdir is
    read_only: bool = False
    userxattr: bool | None = None  # None: trusted.* where the process may, else user.*
    aufs: bool = False  # read AUFS whiteouts in lowers and what fuse-overlayfs wrote in uppers
    allow_other: bool = False
    allow_root: bool = False
    default_permissions: bool = True
    suid: bool = False
    dev: bool = False
    exec_: bool = True
    atime: bool = False
    fsname: str = "unionfs"
    subtype: str = "unionfs"
    volatile: bool = False  # nothing is ever synced, fsync is answered at once
    redirect_dir: bool = True  # False: renaming a directory with lower parts is EXDEV
    passthrough: bool = False  # the kernel has files by itself; of writable mounts, the upper's
    record: bool = False  # every open, read and listing comes to the daemon, for who traces it
    merged_index: bool = True  # use ``index``; False: read the layers
    lend: bool = True  # the extension answers for lower directories; False: Python does
    readahead: int | None = None  # KiB; None: automatic; 0: the kernel's own
    spin: int | None = None  # microseconds to busy-poll for the next request; None: automatic
    debug: bool = False
    # Where the upper keeps owners, modes and types: 0 as files do, else an attribute
    # (ondisk.override): 1 security.fuseoverlayfs.override_stat, 2 user.containers.override_stat
    xattr_permissions: int = 0
    uid_map: tuple[IdRange, ...] = ()  # who is shown in whose place (fuse.owners); empty: all
    gid_map: tuple[IdRange, ...] = ()
    squash_to_root: bool = False  # all are shown as root's
    squash_to_uid: int | None = None  # all are shown as this one's
    squash_to_gid: int | None = None
    context: str | None = None  # the SELinux label of all files
    acl: bool = True  # False: permission bits alone count, and no ACL can be set
    xattrs: bool = True  # False: there are no attributes, nor ACLs
    static_nlink: bool = False  # every directory shows one link
    xattrinfo: bool = True  # answer for user.unionfs.layer and the like (fuse.told)
    index: bytes | None = None  # the file of the lowers' merged index (union.merged)
    lower_names: tuple[LowerName, ...] = ()  # as lowerdirs; empty: these are no image's
    ignored: tuple[str, ...] = ()  # options to name as "unknown argument ignored: X"


_FLAGS: dict[str, dict[str, Any]] = {
    "ro": {"read_only": True},
    "rw": {"read_only": False},
    "volatile": {"volatile": True},
    "userxattr": {"userxattr": True},
    "default_permissions": {"default_permissions": True},
    "allow_other": {"allow_other": True, "allow_root": False},  # libfuse takes one of them
    "allow_root": {"allow_root": True, "allow_other": False},
    "suid": {"suid": True},
    "nosuid": {"suid": False},
    "dev": {"dev": True},
    "nodev": {"dev": False},
    "exec": {"exec_": True},
    "noexec": {"exec_": False},
    "atime": {"atime": True},
    "relatime": {"atime": True},
    "strictatime": {"atime": True},
    "noatime": {"atime": False},
    "debug": {"debug": True},
    "squash_to_root": {"squash_to_root": True},
    "noacl": {"acl": False},
    "static_nlink": {"static_nlink": True},
    "noxattrs": {"xattrs": False},
    "noxattrinfo": {"xattrinfo": False},
    "record": {"record": True},
}

# What every mount is anyway, what only fstab's readers act on, and what libfuse does not pass on:
# directories are read once, so their access times do not follow who lists them.
_MEANINGLESS = frozenset(
    (
        *("defaults", "async", "diratime", "nodiratime", "kernel_cache"),
        *("auto", "noauto", "nofail", "_netdev", "comment"),
        *("user", "users", "nouser", "owner", "group"),
        *("threaded=0", "writeback=0", "xino=auto", "xino=on"),
    )
)

_REFUSED = {
    "lowerdir+": "name all lower directories in one lowerdir=DIR[:DIR…]",
    "datadir+": "data-only layers are not supported",
    "verity=require": "copies without data are not verified",
    "plugins": "layers come as directories only",
    "remount": "of a container's mount; unmount it and mount it again",
}


def defaults(*, privileged: bool) -> MountConfig:
    """Return fuse-overlayfs's defaults for root (*privileged*) or an ordinary user, no layers."""
    return MountConfig((), allow_other=privileged, suid=privileged)


def parse_helper_options(words: Iterable[str], *, privileged: bool) -> MountConfig:
    """Return the mount that the mount-helper form's ``-o`` arguments *words* ask for.

    *privileged* chooses the defaults and whether suid and dev are possible. Raises BadOptionError
    for values without meaning and missing layers, UnsupportedOptionError by name.
    """
    base = replace(defaults(privileged=privileged), aufs=True)
    config = apply_options(base, words, privileged=privileged)
    if not config.lowerdirs:
        raise BadOptionError("no lower directories: give -o lowerdir=DIR[:DIR…]")
    if config.upperdir is not None and config.workdir is None:
        raise BadOptionError("upperdir is given without workdir")
    if config.upperdir is None and config.workdir is not None:
        named = f"workdir={os.fsdecode(config.workdir)}"
        return replace(config, workdir=None, ignored=(*config.ignored, named))
    return config


def apply_options(base: MountConfig, words: Iterable[str], *, privileged: bool) -> MountConfig:
    """Return *base* changed by the ``-o`` arguments *words*; of one option the last counts.

    Raises BadOptionError and UnsupportedOptionError as ``parse_helper_options``.
    """
    fields: dict[str, Any] = {}
    ignored = list(base.ignored)
    for option in (o for word in words for o in split_options(os.fsencode(word))):
        meaning = _meaning(option)
        if meaning is None or not (privileged or _harmless(meaning)):
            ignored.append(os.fsdecode(option))
        else:
            fields |= meaning
    config = replace(base, **fields, ignored=tuple(ignored))
    if config.record and config.passthrough:
        raise UnsupportedOptionError("option record is refused with data=passthrough: unseen reads")
    return config


def absolute(config: MountConfig, cwd: bytes) -> MountConfig:
    """Return *config* with relative directories put below *cwd*, their text otherwise untouched."""

    def below(path: bytes) -> bytes:
        return path if path.startswith(b"/") else cwd + b"/" + path

    return replace(
        config,
        lowerdirs=tuple(below(path) for path in config.lowerdirs),
        upperdir=None if config.upperdir is None else below(config.upperdir),
        workdir=None if config.workdir is None else below(config.workdir),
    )


def has_relative(config: MountConfig) -> bool:
    """Return whether any directory of *config* counts from the caller's working directory."""
    paths = (*config.lowerdirs, config.upperdir, config.workdir)
    return any(path is not None and not path.startswith(b"/") for path in paths)


def _meaning(option: bytes) -> dict[str, Any] | None:
    """Return the fields that *option* sets; None if it is to be named as ignored."""
    name, has_value, raw = os.fsdecode(option).partition("=")
    for refused in (name, os.fsdecode(option)):
        if refused in _REFUSED:
            raise UnsupportedOptionError(f"option {refused} is refused: {_REFUSED[refused]}")
    if has_value and name in _VALUED:
        return _VALUED[name](name, os.fsencode(raw))
    if not has_value and name in _FLAGS:
        return _FLAGS[name]
    if name in _VALUED:
        raise BadOptionError(f"option {name} needs a value: {name}=…")
    meaningless = name in _MEANINGLESS or os.fsdecode(option) in _MEANINGLESS
    return {} if meaningless or name.startswith("x-") else None


def _harmless(meaning: dict[str, Any]) -> bool:
    """Return whether an ordinary user's mount can have *meaning*: it is always nosuid and nodev."""
    return not (meaning.get("suid") or meaning.get("dev"))


def _checked_path(name: str, path: bytes) -> bytes:
    if not path:
        raise BadOptionError(f"option {name} names an empty path")
    if b"\0" in path:
        raise BadOptionError(f"option {name} names a path with a NUL byte")
    return path


def _lowerdir(name: str, value: bytes) -> dict[str, Any]:
    paths = split_paths(value)
    if len(paths) > 1 and not paths[-1]:
        paths.pop()  # engines leave a colon behind the last one
    if b"" in paths[1:]:
        raise UnsupportedOptionError(f"option {name}: data-only layers (::) are not supported")
    return {"lowerdirs": tuple(_checked_path(name, path) for path in paths)}


def _text(value: bytes) -> str:
    """Return a value in which colons separate nothing."""
    return os.fsdecode(b":".join(split_paths(value)))


def _directory(name: str, value: bytes) -> dict[str, Any]:
    return {name: _checked_path(name, os.fsencode(_text(value)))}


def _context(name: str, value: bytes) -> dict[str, Any]:
    """Read an SELinux label: quotes may protect the commas in it, its colons are its own."""
    label = os.fsdecode(unquoted(value))
    if not re.fullmatch(r"[\w.,:\\-]{1,4000}", label, re.ASCII):
        raise BadOptionError(f"option {name}: {label[:80]!r} is no SELinux label")
    return {name: label.replace("\\", "")}


def _string(name: str, value: bytes) -> dict[str, Any]:
    return {name: _text(value)}


def _number(name: str, text: bytes | str, limit: int) -> int:
    digits = os.fsdecode(text)
    if not re.fullmatch("[0-9]{1,20}", digits) or int(digits) > limit:
        raise BadOptionError(f"option {name}: {digits[:80]!r} is not a number up to {limit}")
    return int(digits)


def _id(name: str, value: bytes) -> dict[str, Any]:
    return {name: _number(name, value, _MAX_ID)}


def _limited(name: str, value: bytes) -> dict[str, Any]:
    if value == b"auto":
        return {name: None}
    return {name: 0 if value == b"off" else _number(name, value, _LIMITS[name])}


def _data(name: str, value: bytes) -> dict[str, Any]:
    return {"passthrough": _one_of(name, value, auto=False, cached=False, passthrough=True)}


def _auto_or_off(name: str, value: bytes) -> dict[str, Any]:
    return {name: _one_of(name, value, auto=True, off=False)}


def _one_of(name: str, value: bytes, **meanings: bool) -> bool:
    said = os.fsdecode(value)
    if said not in meanings:
        *words, last = meanings
        raise BadOptionError(f"option {name}: {said!r} is neither {', '.join(words)} nor {last}")
    return meanings[said]


def _xattr_permissions(name: str, value: bytes) -> dict[str, Any]:
    return {name: _number(name, value, 2)}


def _fsync(name: str, value: bytes) -> dict[str, Any]:
    return {"volatile": not _number(name, value, 1)}


def _noxattrs(name: str, value: bytes) -> dict[str, Any]:
    return {"xattrs": not _number(name, value, 1)}


def _redirect_dir(name: str, value: bytes) -> dict[str, Any]:
    # existing redirects are followed whatever it says
    return {name: _one_of(name, value, follow=False, on=True, off=False)}


def _id_map(name: str, value: bytes) -> dict[str, Any]:
    """Read ``[:]C:H:S[:C:H:S…]``, the form in which containers/storage writes ID maps."""
    words = os.fsdecode(value).removeprefix(":").split(":")
    if len(words) % 3:
        raise BadOptionError(f"option {name}: not triples of DISK:SHOWN:SIZE")
    numbers = [_number(name, word, _MAX_ID) for word in words]
    ranges = tuple(IdRange(*numbers[at : at + 3]) for at in range(0, len(numbers), 3))
    for which in (0, 1):
        _check_ranges(name, sorted((r[which], r.size) for r in ranges))
    return {"uid_map" if name == "uidmapping" else "gid_map": ranges}


def _check_ranges(name: str, ranges: list[tuple[int, int]]) -> None:
    """Raise BadOptionError for (first, size) pairs, in order, that are empty or overlap."""
    free = 0
    for first, size in ranges:
        if size < 1 or first + size - 1 > _MAX_ID:
            raise BadOptionError(f"option {name}: {size} IDs from {first} on are no range")
        if first < free:
            raise BadOptionError(f"option {name}: ID {first} is mapped twice")
        free = first + size


_VALUED: dict[str, Callable[[str, bytes], dict[str, Any]]] = {
    "lowerdir": _lowerdir,
    "upperdir": _directory,
    "workdir": _directory,
    "fsname": _string,
    "subtype": _string,
    "context": _context,
    "redirect_dir": _redirect_dir,
    "fsync": _fsync,
    "noxattrs": _noxattrs,
    "spin": _limited,
    "data": _data,
    "readahead": _limited,
    "merged_index": _auto_or_off,
    "lend": _auto_or_off,
    "uidmapping": _id_map,
    "gidmapping": _id_map,
    "squash_to_uid": _id,
    "squash_to_gid": _id,
    "xattr_permissions": _xattr_permissions,
}

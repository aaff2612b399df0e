"""What the words CONTAINER, IMAGE and TARGET stand for, as a stack that can be looked into."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unionfs.container.layers import layer_names
from unionfs.container.state import (
    Mounted,
    container_of_fsname,
    image_of_fsname,
    read_state,
)
from unionfs.daemon import client
from unionfs.digest import Digest
from unionfs.errors import NotFoundError, UnionfsError
from unionfs.inspect.stack import UPPER, LayerName, Source, called, numbered
from unionfs.ondisk.flavour import Flavour
from unionfs.options import MountConfig, absolute, has_relative, parse_helper_options
from unionfs.store.records import ContainerRecord, ImageRecord
from unionfs.store.store import Store
from unionfs.syscalls import xattr
from unionfs.syscalls.mount import MountEntry, mounts_at

STACK = b"user.unionfs.stack"  # what a daemon says of its mount (fuse.told)


class UnknownMountError(NotFoundError):
    """A mount's layers cannot be found out."""


def find_source(store: Store | None, text: str) -> Source:
    """Return the stack that *text* names: a container, else an image, else a mount point.

    What has a slash in it or is a mount of ours is a mount point; without a *store* nothing else
    is there. Raises NotFoundError, AmbiguousError, UnknownMountError.
    """
    entry = _mount_at(text)
    if entry is not None:
        return replace(_of_mount(store, entry), target=entry.target)
    if text.startswith(("/", "./", "../")) or text in (".", ".."):
        raise UnknownMountError(f"{text} is not a mount point of unionfs")
    if store is None:
        raise NotFoundError(f"no such container or image: {text}")
    try:
        return of_container(store, store.containers.resolve(text))
    except NotFoundError:
        pass
    try:
        return of_image(store, store.images.resolve(text))
    except NotFoundError:
        raise NotFoundError(f"no such container, image or mount point: {text}") from None


def of_image(store: Store, image: ImageRecord) -> Source:
    """Return the stack of *image*. Raises as ``layer_names``."""
    label = image.names[0] if image.names else image.id.short
    return Source(f"image {label}", layer_names(store, image), flavour=store.flavour)


def of_container(store: Store, container: ContainerRecord) -> Source:
    """Return the stack of *container*, mounted or not. Raises as ``layer_names``."""
    image = store.images.get(container.image_id)
    home = os.fsencode(store.containers.path(container.id))
    mounts = read_state().of_container(container.id)
    return Source(
        f"container {container.name}",
        (LayerName(UPPER, home + b"/upper"), *layer_names(store, image)),
        upper=True,
        work=home + b"/work",
        read_only=_all_read_only(mounts),
        flavour=store.flavour,
    )


def _all_read_only(mounts: Sequence[Mounted]) -> bool:
    return bool(mounts) and all(mounted.read_only for mounted in mounts)


def _mount_at(text: str) -> MountEntry | None:
    """Return the mount of ours on the directory *text*, None if there is none."""
    target = client.resolve(os.fsencode(text))
    return mounts_at(target)[-1] if client.is_ours(target) else None


def _of_mount(store: Store | None, entry: MountEntry) -> Source:
    source_name = os.fsdecode(entry.source)
    container, image = container_of_fsname(source_name), image_of_fsname(source_name)
    try:
        if store is not None and container is not None:
            return of_container(store, store.containers.resolve(container))
        if store is not None and image is not None:
            return of_image(store, store.images.get(Digest.parse(f"sha256:{image}")))
    except NotFoundError:
        pass  # another store's: its daemon knows
    source = _told(entry) or _called(entry)
    if source is None:
        where = os.fsdecode(entry.target)
        raise UnknownMountError(
            f"{where}: its daemon does not say what it is mounted from"
            " (it is another user's: ask as that user; or it has noxattrinfo and another name)"
        )
    return source


def _told(entry: MountEntry) -> Source | None:
    """Return what the daemon of *entry* says in an attribute, None if it does not."""
    try:
        value = xattr.get(entry.target, STACK)
    except OSError:
        return None
    try:
        return None if value is None else _source(json.loads(value), entry)
    except (ValueError, KeyError, TypeError):
        return None  # some other filesystem's attribute


def _source(document: dict[str, Any], entry: MountEntry) -> Source:
    upper, work = document["upper"], document["work"]
    return Source(
        f"mount {os.fsdecode(entry.target)}",
        called(
            [os.fsencode(path) for path in document["lowers"]],
            document["names"],
            None if upper is None else os.fsencode(upper),
        ),
        upper=upper is not None,
        work=None if work is None else os.fsencode(work),
        read_only=document["read_only"],
        flavour=Flavour[document["flavour"]],
        aufs=document["aufs"],
    )


def _called(entry: MountEntry) -> Source | None:
    """Return what the command line of the daemon of *entry* says: for mounts in helper form."""
    for pid in client.serving(entry):
        config = _config_of(pid)
        if config is not None:
            return _of_config(config, entry)
    return None


def _config_of(pid: int) -> MountConfig | None:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = [os.fsdecode(word) for word in file.read().split(b"\0")]
        options = [
            word[2:] or words[at + 1] for at, word in enumerate(words) if word.startswith("-o")
        ]
        config = parse_helper_options(options, privileged=os.stat(f"/proc/{pid}").st_uid == 0)
        if not has_relative(config):
            return config
        begun = _begun_in(pid, config)
    except (OSError, IndexError, UnionfsError):
        return None
    return None if begun is None else absolute(config, begun)


def _begun_in(pid: int, config: MountConfig) -> bytes | None:
    """Return the directory that the relative paths of a daemon's command line counted from.

    The daemon has left it, but holds its layers open: it is the one from which all paths lead to
    one of those. None where there is none, or more than one. Raises OSError.
    """
    folder = f"/proc/{pid}/fd"
    held = {os.fsencode(os.readlink(f"{folder}/{fd}")) for fd in os.listdir(folder)}
    paths = [path for path in (*config.lowerdirs, config.upperdir) if path is not None]
    ends = [b"/" + os.path.normpath(path) for path in paths if not path.startswith(b"/")]
    begun = {path[: -len(end)] for path in held for end in ends if path.endswith(end)}
    fitting = [
        one for one in begun if all(os.path.normpath(os.path.join(one, p)) in held for p in paths)
    ]
    return (fitting[0] or b"/") if len(fitting) == 1 else None


def _of_config(config: MountConfig, entry: MountEntry) -> Source:
    return Source(
        f"mount {os.fsdecode(entry.target)}",
        numbered(config.lowerdirs, config.upperdir),
        upper=config.upperdir is not None,
        work=config.workdir,
        read_only=config.read_only or config.upperdir is None or b"ro" in entry.options.split(b","),
        flavour=None if config.userxattr is None else Flavour.USER,
        aufs=True,
    )

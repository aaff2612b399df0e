"""What a mount says of itself: its requests, what it holds, and the modes it works in.

For ``unionfs stats``, through the attribute ``user.unionfs.stats`` (``told``): the one way to ask
that every mount has, whoever made it, and that needs no socket which a container might find.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from unionfs import __version__
from unionfs.fuse import guard, native
from unionfs.inspect.statistics import OPERATIONS, Operation
from unionfs.ondisk.flavour import Flavour
from unionfs.options import MountConfig

if TYPE_CHECKING:
    from unionfs.fuse.operations import Operations

_UNANSWERED = ("forget", "batch_forget", "interrupt")

KERNELS_READAHEAD = 128  # KiB; VM_READAHEAD_PAGES, linux/mm.h


class Measured:
    """The statistics of one mount of *config*, answered by *operations*.

    ``readahead`` is how far the kernel was set to read ahead (KiB; 0: it was not).
    """

    def __init__(self, operations: Operations, config: MountConfig, flavour: Flavour) -> None:
        self._operations = operations
        self._config = config
        self._flavour = flavour
        self.readahead = 0
        self._since = time.monotonic()

    def document(self) -> dict[str, Any]:
        """Return everything, for JSON: times in ns or seconds as the names say, sizes in bytes."""
        operations, upper = self._operations, self._operations.upper
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._since, 3),
            "requests": {name: one.document() for name, one in sorted(_requests().items())},
            "answered_by_extension": native.hooks.answered() if native.hooks is not None else 0,
            "answered_directly": _directly(),
            "unforeseen_errors": guard.unforeseen,
            "copy_ups": {
                "files": 0 if upper is None else upper.copied_files,
                "bytes": 0 if upper is None else upper.copied_bytes,
            },
            "nodes": len(operations.inodes),
            "descriptors": len(os.listdir("/proc/self/fd")) - 1,  # less that of the listing
            "memory_bytes": _resident(),
            "busy_polling": _polling(),
            "files_ahead": _asked_ahead(),
            "unseen": self._unseen(),
            "modes": [
                {"mode": mode, "is": value, "because": because}
                for mode, value, because in self._modes()
            ],
        }

    def _unseen(self) -> list[str]:
        """Return what somebody who traces this mount cannot be told of, in words."""
        operations = self._operations
        unseen = []
        if operations.files.by_node:
            unseen.append("opens of files")
        if operations.by_node:
            unseen += ["opens of directories", "listings that the kernel has in its cache"]
        if operations.files.passing is not None:
            unseen.append("reads" if operations.upper is None else "reads and writes")
        elif not self._config.record:
            unseen.append("reads of what the kernel has in its cache")
        if native.hooks is None:
            unseen.append("who reads and writes")
        return unseen

    def request_count(self) -> int:
        """Return how many requests there were that somebody waited for."""
        return sum(one.count for name, one in _requests().items() if name not in _UNANSWERED)

    def _modes(self) -> list[tuple[str, str, str]]:
        """Return each mode, what it is, and why it is not another."""
        config = self._config
        return [
            _extension(),
            self._lookups(),
            self._below(),
            self._opens(),
            self._data(),
            self._ahead(),
            self._files_ahead(),
            _spinning(config),
            self._permissions(),
            self._marks(),
            self._syncing(),
            self._tracing(),
        ]

    def _lookups(self) -> tuple[str, str, str]:
        if self._operations.tree.merged is not None:
            return "lookup", "merged index", ""
        if not self._config.merged_index:
            because = "merged_index=off"
        elif self._config.index is None:
            because = "none was made of these layers"
        else:
            because = "the image has none: unionfs check --repair makes it"
        return "lookup", "each layer is read", because

    def _below(self) -> tuple[str, str, str]:
        if self._operations.inodes.lending.on:
            return "unchanged directories", "answered by the extension", ""
        if native.hooks is None:
            because = "without the extension"
        elif not self._config.lend:
            because = "lend=off"
        elif self._owners_are_asked_for():
            because = "owners are in attributes, and no merged index tells of them here"
        else:
            because = "it is not what the layers say, or handles are used, or it was rebased"
        return "unchanged directories", "answered by Python", because

    def _owners_are_asked_for(self) -> bool:
        """Return whether files of layers keep owners in attributes that no index tells of."""
        tree = self._operations.tree
        told = tree.merged is not None and tree.merged.has_attributes
        return not told and any(layer.override for layer in tree.lowers())

    def _opens(self) -> tuple[str, str, str]:
        if self._operations.files.by_node:
            return "open", "no request", ""
        if native.hooks is None:
            return "open", "a request each", "without the extension"
        if self._config.record:
            return "open", "a request each", "record"
        because = (
            "data=passthrough" if self._config.passthrough else "each is checked by the daemon"
        )
        return "open", "a request each", because

    def _data(self) -> tuple[str, str, str]:
        if self._operations.files.passing is not None:
            writable = self._operations.upper is not None
            return (
                "data",
                "passthrough",
                "files of the upper; cached: of layers" if writable else "",
            )
        if self._config.record:
            return "data", "cached until the next open", "record"
        writable = self._operations.upper is not None
        because = "the mount can be written" if writable else "data=passthrough was not asked for"
        return "data", "cached", because

    def _ahead(self) -> tuple[str, str, str]:
        if self.readahead:
            return "readahead", f"{self.readahead} KiB", ""
        asked = self._config.readahead == 0
        because = "readahead=off" if asked else "only root may set it, with the extension"
        return "readahead", f"{KERNELS_READAHEAD} KiB", because

    def _files_ahead(self) -> tuple[str, str, str]:
        if self._config.readahead == 0:
            return "files ahead", "none", "readahead=off"
        if self._operations.inodes.lending.on:
            return "files ahead", "while a directory's are read in order", ""
        return "files ahead", "none", "directories are not answered for by the extension"

    def _permissions(self) -> tuple[str, str, str]:
        if self._operations.rooted:
            return (
                "permissions",
                "checked by the daemon",
                "owners are not those on disk",
            )
        if not self._config.default_permissions:
            return "permissions", "not checked", "default_permissions is off"
        return "permissions", "checked by the kernel", ""

    def _marks(self) -> tuple[str, str, str]:
        if self._flavour is Flavour.TRUSTED:
            return "marks", "trusted.overlay.*", ""
        asked = bool(self._config.userxattr)
        return "marks", "user.overlay.*", "userxattr" if asked else "trusted.* is for root"

    def _syncing(self) -> tuple[str, str, str]:
        if self._operations.upper is None:
            return "syncing", "nothing to sync", "the mount is read-only"
        if self._config.volatile:
            return "syncing", "never", "volatile"
        return "syncing", "copies before they show, files when asked", ""

    def _tracing(self) -> tuple[str, str, str]:
        tracer = self._operations.tracer
        if tracer is None:
            return "tracing", "not possible", "noxattrinfo"
        readers = tracer.readers()
        return "tracing", f"{readers} reading" if readers else "off", ""


def _requests() -> dict[str, Operation]:
    if native.hooks is None:
        return dict(guard.operations)
    return {
        OPERATIONS.get(opcode, f"opcode_{opcode}"): Operation(
            count, errors, total, longest, [*buckets]
        )
        for opcode, (count, errors, total, longest, buckets) in native.hooks.operations().items()
    }


def _resident() -> int:
    """Return the memory that this process has in use (bytes; proc(5), statm)."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def _directly() -> int:
    return native.hooks.answered_directly() if native.hooks is not None else 0


def _asked_ahead() -> dict[str, int]:
    asked, foreseen = native.hooks.read_ahead() if native.hooks is not None else (0, 0)
    return {"asked": asked, "foreseen": foreseen}


def _polling() -> dict[str, int]:
    spent, caught = native.hooks.spun() if native.hooks is not None else (0, 0)
    return {"spent_ns": spent, "caught": caught}


def _extension() -> tuple[str, str, str]:
    if native.hooked():
        assert native.hooks is not None
        because = "libfuse has no custom I/O: replies are copied" if native.hooks.relayed() else ""
        return "extension", "in use", because
    if os.environ.get("UNIONFS_PURE") == "1":
        return "extension", "not used", "UNIONFS_PURE=1"
    return "extension", "not used", "it was not built, or libfuse is not one it knows"


def _spinning(config: MountConfig) -> tuple[str, str, str]:
    from unionfs.fuse import loop

    limit = loop.spin_limit(config.spin) if native.hooked() else 0
    if limit:
        return "busy-polling", f"up to {limit} us", ""
    if not native.hooked():
        return "busy-polling", "off", "without the extension"
    return "busy-polling", "off", "spin=off" if config.spin == 0 else "there is one processor"

"""What every command is called with: the global options, made into what commands need."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unionfs.errors import NotFoundError, UnionfsError, UsageError

if TYPE_CHECKING:
    from unionfs.store.records import ContainerRecord
    from unionfs.store.store import Store

_ROOT_OF_ROOT = "/var/lib/unionfs"


class ImageGivenError(NotFoundError):
    """An image is named where a container is wanted."""


@dataclass(frozen=True, slots=True)
class Context:
    """The words of one call: ``args`` are the command's own, the rest is global.

    ``root`` is the store's directory, absolute; ``quiet`` means no progress and, in listings, only
    IDs.
    """

    args: Namespace
    root: str
    json: bool
    quiet: bool
    verbose: int

    @classmethod
    def of(cls, args: Namespace) -> Context:
        """Return the context that the parsed words *args* give."""
        root = default_root() if args.root is None else args.root
        if not root or "\0" in root:
            raise UsageError("--root needs a directory")
        return cls(args, os.path.abspath(root), args.json, args.quiet, args.verbose)

    def store(self, *, create: bool = False) -> Store:
        """Open the store; make it first with *create*. Raises UnionfsError."""
        from unionfs.store.store import Store

        return Store.open(self.root, create=create)

    def has_store(self) -> bool:
        """Return whether a store has been made at ``root``; a listing of none is empty.

        That is said beside the listing to whoever chose the place in this call. Raises
        NotAStoreError where something else is.
        """
        from unionfs.store.layout import Layout

        layout = Layout(self.root)
        if layout.exists():
            return True
        layout.require_room()
        if self.args.root is not None and not (self.json or self.quiet):
            note(f"there is no store at {self.root} yet")
        return False


def find_container(store: Store, text: str, instead: str) -> ContainerRecord:
    """Return the container that *text* names.

    Where only an image has that name, the error tells what to do *instead*: a command, in which
    ``{}`` stands for the name. Raises NotFoundError, AmbiguousError.
    """
    try:
        return store.containers.resolve(text)
    except NotFoundError as error:
        try:
            store.images.resolve(text)
        except UnionfsError:
            raise error from None
        hint = instead.replace("{}", text)
        raise ImageGivenError(f"no such container: {text}; it is an image: {hint}") from error


def ending_cleanly(handler: Callable[[Context], int]) -> Callable[[Context], int]:
    """Return *handler* made so that SIGTERM and SIGHUP end it as ^C does: cleaning up, with 128+n.

    For commands that write where nobody sweeps, or that keep others waiting.
    """

    def handle(context: Context) -> int:
        from unionfs.syscalls.interrupt import Interrupted, interruptible

        try:
            with interruptible():
                return handler(context)
        except Interrupted as interruption:
            return interruption.status

    return handle


def note(message: str) -> None:
    """Say *message* in one line on standard error; the command goes on."""
    print(f"unionfs: {' '.join(message.split())}", file=sys.stderr)


def default_root() -> str:
    """Return where the store is without ``--root``."""
    chosen = os.environ.get("UNIONFS_ROOT")
    if chosen:
        return chosen
    if os.geteuid() == 0:
        return _ROOT_OF_ROOT
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "unionfs")

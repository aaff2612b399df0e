"""What every command is called with: the global options, made into what commands need."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unionfs.errors import UsageError

if TYPE_CHECKING:
    from unionfs.store.store import Store

_ROOT_OF_ROOT = "/var/lib/unionfs"


@dataclass(frozen=True, slots=True)
class Context:
    """The words of one call: ``args`` are the command's own, the rest is global.

    ``root`` is the store's directory, absolute; ``quiet`` means no progress, and only IDs in listings.
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
        """Return whether a store has been made at ``root``; a listing of none is empty."""
        from unionfs.store.layout import Layout

        return Layout(self.root).exists()


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

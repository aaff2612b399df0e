"""The merged indexes of images: files that say what their layers show together.

What is in one is not the store's business (``union.merged`` has it). A mount does without where it
is missing, so it comes after its image and goes after it, and nothing is undone for its sake.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from unionfs.digest import Digest
from unionfs.store.parts import Parts
from unionfs.store.scratch import Take
from unionfs.syscalls.publish import fsync_dir

INDEX = "index"


class Indexes:
    """The indexes of one store, by the ChainID of the layers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def path(self, chain: Digest) -> str:
        """Return the file of *chain*, whether it is there or not."""
        return self._parts.layout.index(chain)

    def publish(self, chain: Digest, write: Callable[[str], None]) -> None:
        """Put the file that *write* makes at the path it is given into the place of *chain*.

        Nothing happens if no image has these layers any more. Raises StoreFullError,
        StoreFailedError, what *write* raises; what was in the place before is then still there.
        """
        final = self.path(chain)
        with (
            self._parts.failures_named(f"writing the index of the layers {chain}"),
            self._parts.scratch.locked(chain.hex),
            self._parts.scratch.directory() as scratch,
        ):
            if not self._is_used(chain):
                return
            made = os.path.join(scratch.path, INDEX)
            write(made)
            _sync(made)
            os.makedirs(os.path.dirname(final), mode=0o700, exist_ok=True)
            os.replace(made, final)
            fsync_dir(os.path.dirname(final))

    def drop_unused(self, chain: Digest, take: Take) -> None:
        """Have *take* remove the file of *chain* if no image has these layers.

        A mount that has it open goes on with it.
        """
        try:
            with self._parts.scratch.locked(chain.hex, wait=False):
                if not self._is_used(chain):
                    take(INDEX, str(chain), self.path(chain), lambda: os.unlink(self.path(chain)))
        except BlockingIOError:
            pass  # somebody is making it

    def _is_used(self, chain: Digest) -> bool:
        with self._parts.database.read() as rows:
            found = rows.execute("SELECT 1 FROM images WHERE chain_id = ?", (str(chain),))
            return found.fetchone() is not None


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

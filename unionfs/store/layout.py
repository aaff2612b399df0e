"""Where things are below a store's root, and making those directories."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from unionfs.digest import BadDigestError, Digest
from unionfs.errors import NotFoundError, RefusedError

_ALGORITHMS = ("sha256", "sha512")
_OURS = ("blobs", "containers", "fixups", "layers", "locks", "tmp")
_INDEXES = "indexes"  # not in stores of earlier versions, and made with the first of them
_NESTED = tuple(
    f"{kind}/{algorithm}" for kind in ("blobs", "fixups", "layers") for algorithm in _ALGORITHMS
)
_EMPTY = "empty"
TREE = "diff"  # in a published layer or fix-up: the directory to mount
RECIPE = "recipe"  # in a published layer: how its tar was written
_DATABASE = "store.db"
_SPARE = "spare"
_MAY_BE_THERE = frozenset((*_OURS, _INDEXES, _EMPTY, _DATABASE, _SPARE, "lost+found"))


class NoStoreError(NotFoundError):
    """There is no store at the given root."""


class NotAStoreError(RefusedError):
    """The given root holds something that is not a store."""


class Layout:
    """The paths of one store, as text."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.database = os.path.join(self.root, _DATABASE)
        self.containers = os.path.join(self.root, "containers")
        self.locks = os.path.join(self.root, "locks")
        self.tmp = os.path.join(self.root, "tmp")
        self.spare = os.path.join(self.root, _SPARE)
        self.empty = os.path.join(self.root, _EMPTY)

    def layer(self, diff_id: Digest) -> str:
        """The published directory of a layer: ``diff`` and ``layer.json`` are in it."""
        return os.path.join(self.root, "layers", diff_id.algorithm, diff_id.hex)

    def blob(self, digest: Digest) -> str:
        """The file of a kept blob."""
        return os.path.join(self.root, "blobs", digest.algorithm, digest.hex)

    def fixup(self, chain: Digest) -> str:
        """The published directory of a chain's fix-ups."""
        return os.path.join(self.root, "fixups", chain.algorithm, chain.hex)

    def index(self, chain: Digest) -> str:
        """The file of a chain's merged index."""
        return os.path.join(self.root, _INDEXES, chain.algorithm, chain.hex)

    def container(self, container_id: str) -> str:
        """The published directory of a container."""
        return os.path.join(self.containers, container_id)

    def published(self, kind: str) -> list[Digest]:
        """Return the digests of what is below a directory of the store (*kind*)."""
        found = []
        for algorithm in _ALGORITHMS:
            for name in _listed(os.path.join(self.root, kind, algorithm)):
                try:
                    found.append(Digest.parse(f"{algorithm}:{name}"))
                except BadDigestError:
                    pass  # not a name of ours: we neither use it nor remove it
        return found

    def directories(self) -> list[str]:
        """Return the store's own directories, outermost first; all are for their owner only."""
        return [self.root, *(os.path.join(self.root, name) for name in (*_OURS, *_NESTED))]

    def exists(self) -> bool:
        """Return whether a store has been made here. Raises OSError (EACCES)."""
        try:
            os.stat(self.database)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def require(self) -> None:
        """Raise NoStoreError unless a store has been made here."""
        if not self.exists():
            raise NoStoreError(f"no store at {self.root}")

    def require_room(self) -> None:
        """Raise NotAStoreError if the root is something else: somebody mistyped ``--root``."""
        try:
            strangers = sorted(set(os.listdir(self.root)) - _MAY_BE_THERE)
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise NotAStoreError(f"{self.root} is not a store and not a directory") from error
        if strangers and not self.exists():
            raise NotAStoreError(
                f"{self.root} is not a store and is not empty: it holds {strangers[0]!r}"
            )

    def make(self) -> None:
        """Make the directories that are missing, all 0700; as ``require_room`` otherwise."""
        self.require_room()
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        for name in (*_OURS, *_NESTED):
            os.makedirs(os.path.join(self.root, name), mode=0o700, exist_ok=True)
        if not os.path.isdir(self.empty):
            os.makedirs(self.empty, mode=0o755, exist_ok=True)
            os.chmod(self.empty, 0o755)  # the root of an image without layers, umask or not


def _listed(directory: str) -> list[str]:
    """Return the names in *directory*; none where an older store could not be brought up yet."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def now() -> str:
    """Return the time as RFC 3339 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

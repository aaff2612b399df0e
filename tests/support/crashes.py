"""One upper after another over the same layers, each used by a daemon that meets a bad end.

What it then shows is looked at by our next mount and, on a copy of the directories made before that
one could clean up, by the kernel's overlayfs.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Collection
from dataclasses import replace

from tests.support import kernel, trees
from tests.support.mounts import UNION_OPTIONS, KernelOverlay, SessionMount, Spawner
from tests.support.stacks import IN_NAMESPACE, MARKS, PAST_NS, Layers
from tests.support.trees import Tree

NOW = "now"
# What a caller of a killed daemon is told; ECONNREFUSED only where it had not answered INIT yet.
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EIO)
USERS = {"user attributes": (b"userxattr",), "kept owners": (b"userxattr", b"xattr_permissions=2")}
_LONG_AGO = PAST_NS + 10**17  # later times are the test's own


class Stage:
    """A directory *folder* with fresh uppers over *lowers*, one at a time.

    They are mounted as a container of the store is, or, if ``container`` says no, in helper form.
    """

    def __init__(self, folder: bytes, lowers: tuple[bytes, ...], spawner: Spawner) -> None:
        self.folder, self._lowers, self._spawner = folder, lowers, spawner
        self._count = 0
        self.layers = Layers(lowers)
        self.options: tuple[bytes, ...] = UNION_OPTIONS
        self.container = True
        self.for_the_kernel = not IN_NAMESPACE  # it can mount these uppers
        os.mkdir(folder)

    def as_a_users(self, form: str) -> None:
        """Mount in helper form with the options of ``USERS``, as an ordinary user does."""
        self.container = False
        self.options = (*UNION_OPTIONS, *USERS[form])

    @property
    def marks(self) -> str:
        """The namespace of the attributes that this stage's mounts write."""
        return "user" if b"userxattr" in self.options else MARKS

    def fresh(self) -> None:
        """Begin anew: an empty upper and work directory."""
        if self._count:
            subprocess.run(["rm", "-rf", "--", *self._paths(), self.folder + b"/copy"], check=True)
        self._count += 1
        upper, work = self._paths()
        os.mkdir(upper)
        os.mkdir(work)
        os.utime(upper, ns=(PAST_NS, PAST_NS))
        self.layers = Layers(self._lowers, upper, work)

    def _paths(self, below: bytes = b"") -> tuple[bytes, bytes]:
        names = (b"upper%d" % self._count, b"work%d" % self._count)
        return self.folder + below + b"/" + names[0], self.folder + below + b"/" + names[1]

    def mount(self) -> SessionMount:
        """Mount with us; the caller ends it, in a good way or a bad one."""
        return SessionMount(
            self.layers,
            self.folder + b"/ours",
            self._spawner,
            options=self.options,
            container=self.container,
        )

    @property
    def upper(self) -> bytes:
        return self._paths()[0]

    def copy(self) -> Layers:
        """Return a copy of upper and work as they are, for the kernel to mount."""
        copies = self.folder + b"/copy"
        os.makedirs(copies, exist_ok=True)
        # In one go: names in the index and in the upper are links of one another.
        subprocess.run(["cp", "-a", "--", *self._paths(), copies], check=True)
        return Layers(self._lowers, *self._paths(b"/copy"))

    def ours(self) -> Tree:
        """Return what our next mount shows, having looked that nothing stays in work."""
        with self.mount() as mounted:
            seen = look(mounted.root)
            assert self.leftovers() == [], "the next mount did not clear work"
        return seen

    def kernels(self, layers: Layers) -> list[Tree]:
        """Return what the kernel's overlayfs shows of *layers*; nothing where it cannot.

        With a user's marks it takes no redirects, and no hard links (DESIGN.md 2.3).
        It numbers an opaque directory as a new one, also where that has an origin mark.
        """
        if not self.for_the_kernel or b"userxattr" in self.options:
            return []
        with KernelOverlay(layers, self.folder + b"/kernel") as mounted:
            return [look(mounted.root)]

    def leftovers(self) -> list[bytes]:
        """Return what is in the work directory, but for the whiteouts in stock."""
        assert self.layers.work is not None
        folder = self.layers.work + b"/work"
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return [name for name in names if not _is_whiteout(folder + b"/" + name)]


def dead(mounted: SessionMount) -> None:
    """Take the mount of a killed daemon away, when all of that process is gone."""
    status = mounted.wait()
    assert status == -9, f"the daemon's exit status is {status}"
    if kernel.mounted_at(mounted.root) is not None:
        kernel.umount(mounted.root, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)


def _is_whiteout(path: bytes) -> bool:
    st = os.lstat(path)
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def look(root: bytes) -> Tree:
    """Return the tree at *root*; of times that the tests did not set only that they are recent."""
    seen = trees.snapshot(root, stamp=lambda ns: NOW if ns > _LONG_AGO else ns)
    assert not seen.faults, seen.faults
    return seen


def differing(
    left: Tree, right: Tree, born: Collection[int], *, kinds: Collection[str] = ()
) -> list[str]:
    """Return a line for each difference.

    Inode numbers of *left* or *right* that are among *born* have to be the same in both; of all
    kinds of files but *kinds*.
    """
    one, other = _numbered(left, born, kinds), _numbered(right, born, kinds)
    return [str(found) for found in trees.differences(one, other, fields=[*trees.FIELDS, "ino"])]


def _numbered(tree: Tree, born: Collection[int], kinds: Collection[str]) -> Tree:
    nodes = {
        path: replace(node, ino=node.ino if node.ino in born and node.kind not in kinds else 0)
        for path, node in tree.nodes.items()
    }
    return Tree(nodes, tree.faults)


def without_directory_times(tree: Tree) -> Tree:
    nodes = {
        path: replace(node, mtime=0) if node.kind == "dir" else node
        for path, node in tree.nodes.items()
    }
    return Tree(nodes, tree.faults)

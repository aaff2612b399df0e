"""What the C extension offers, as types; ``native`` has it."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Protocol

# Of one kind of request: how many came and failed, the time that they took in all and at most (ns),
# and how many took how long: from 2^n ns (the first: from 0) to 2^(n+1).
Counted = tuple[int, int, int, int, tuple[int, ...]]


# What was known in a lent directory: its names in the order of their positions, None if it was not
# listed; name, number and references of each file, and whether it is known that chattr(1) does not
# protect it.
TakenBack = tuple[list[bytes] | None, list[tuple[bytes, int, int, int]]]


class Hooks(Protocol):
    """What the extension offers."""

    VERSION: int

    def descriptor(self) -> int:
        """Return the hooked session's descriptor; -1 while no session is hooked."""

    def enable(self) -> None:
        """Hook the session that is mounted next."""

    def relayed(self) -> bool:
        """Return whether replies go through memory, since libfuse refuses custom I/O."""

    def misses(self) -> int:
        """Return how many reads found no request, or ended to give the loop its turn."""

    def kills_privileges(self) -> bool:
        """Return whether the request read last is to remove set-id bits from its file.

        For the handler of that request, before it awaits anything.
        """

    def mapped(self) -> bool:
        """Return whether the request read last is a WRITE of what a mapping (mmap(2)) holds.

        For the handler of that request, before it awaits anything.
        """

    def caller(self) -> tuple[int, int, int]:
        """Return the user, group and process ID of who made that request."""

    def carried(self) -> tuple[int, bytes] | None:
        """Return opcode and body of the request read last if GETXATTR carries it, else None.

        For the handler of that request, before it awaits anything; so are the next three.
        """

    def xattr_flags(self) -> int:
        """Return the flags (setxattr(2)) of the SETXATTR read last."""

    def asks_tmpfile(self) -> bool:
        """Return whether the CREATE read last asks for a file without a name (O_TMPFILE)."""

    def touches(self) -> bool:
        """Return whether the SETATTR read last sets both times to now (utimensat(2))."""

    def set_near(self, bits: int) -> None:
        """Say how many *bits* inode numbers have that their place is next to (``numbers``)."""

    def set_root_number(self, ino: int) -> None:
        """Show the inode number *ino* for the root; 0: the node's, which is 1."""

    def hear_releases(self) -> None:
        """Leave RELEASE to Python, which gives handles; before the first request only."""

    def pass_through(self) -> None:
        """Ask the kernel for FUSE_PASSTHROUGH, and take backing files out of the handles of opens.

        Before the session is mounted.
        """

    def back(self, fd: int) -> int:
        """Let the kernel have the file *fd* by itself; return its number for it, 0 if it refuses.

        The number goes into the upper bits of handles (``files``); it is good until ``unback``.
        """

    def unback(self, backing: int) -> None:
        """Let the kernel forget a number that no open to come needs."""

    def share(self, node: int, fd: int, own: bool) -> None:
        """Answer READ of *node* (its number) from the descriptor *fd*, until ``unshare``.

        *own*: it can be written, and its inode says everything that GETATTR asks for; then writes
        and changes of attributes are made and answered, too, and ``Node.attr`` is not kept.
        """

    def unshare(self, node: int) -> None:
        """Answer requests about *node* no more; before its descriptor is closed."""

    def end_of_listing(self, node: int, position: int) -> None:
        """Answer that nothing follows *position* in the directory *node*, until names change."""

    def share_dir(self, node: int, fd: int, merged: bool) -> None:
        """Answer GETATTR of *node* by fstat of the directory *fd*, with one link if it is *merged*.

        Until the kernel forgets the node, another takes its place, *fd* is -1, or ``unshare_dirs``.
        """

    def unshare_dirs(self) -> None:
        """Answer GETATTR of shared directories no more.

        Before one or more stop being merged; the rest is shared again when asked for.
        """

    def forget_attributes(self) -> None:
        """Answer GETATTR from nothing that was told before, nor from shared directories."""

    def names_wanted(self, node: int) -> bool:
        """Return whether absent names of the directory *node* were asked for before."""

    def share_names(self, node: int, names: bytes, count: int) -> None:
        """Answer LOOKUP in the directory *node* of names that are not among its *names*.

        These are all it has, *count* of them, joined by NUL. What requests make from then on is
        added by itself, until the kernel forgets the node or there is no room for more names.
        """

    def warm_up(self, name: bytes, parents: array[int]) -> int:
        """Have the directories *name* in all of *parents* read from the disk, side by side.

        *parents* are descriptors (``array("i")``), whose order it changes. Returns how many
        directories had to be read. It waits for the disk, as who looks one after another would.
        """

    def share_part(self, directory: int, layer: int, fd: int, mark: bytes) -> None:
        """Answer READ of files in the *directory* (its node's number) that *layer* has.

        Of those that entries told with the generation LOWER and the number *layer*, by opening them
        at *fd*, which is that layer's directory, until requests may change them or
        ``forget_attributes``. *mark*: the attribute of files whose data is elsewhere, which are
        Python's; empty: there are none.
        """

    def share_xattrless(self, node: int, directory: bool) -> None:
        """Answer that *node* has no extended attributes, until a request may change it.

        None that any caller may see. While such a request is under way Python is asked.
        """

    def lend_how(self, one_link: bool, xattrs: bool) -> None:
        """Say whether lent directories show one link each, and whether files have attributes."""

    def lend_layer(
        self,
        number: int,
        fd: int,
        device: int,
        near: int,
        far: int,
        plain: bool,
        aufs: bool,
        prefix: bytes,
        metacopy: bytes,
        kept: bytes,
        capability: bytes,
    ) -> None:
        """Let directories of a layer be lent: *fd* is its root, as long as anything is.

        Numbers of its files are their inode's plus *near* or *far* (``numbers``). *aufs*: names
        that begin with ``.wh.`` are no files. *prefix*: of marks, with some of which a directory is
        not lent (there are none if it is *plain*). *metacopy*: marks files whose data is elsewhere
        (empty: there are none). *kept*: the attribute that says what a file is shown as, which
        nobody is shown (empty: it is what the file is); such a layer needs an index that says it,
        too. *capability*: what ``security.capability`` is called there. Raises ValueError,
        MemoryError.
        """

    def lend_rows(self, row: Callable[[bytes], bytes], attributes: bool) -> None:
        """Lend what a merged index says of all layers that are lent, before any directory is.

        *row* returns the row of the directory at a path from the layers' roots (``union.merged``);
        *attributes*: those in it hold. It is called when a request is read, by the loop's thread.
        """

    def lend(self, node: int, above: int, layer: int, several: int, path: bytes) -> bool:
        """Answer for the directory *node*, which is at *path* from the root of *layer*.

        *several*: it is merged of these layers, a bit each, *layer* the topmost; 0: of one, or as
        an index says. *above* is its parent's number. Returns whether it is so.
        """

    def lent_above(self, node: int) -> int:
        """Return the number of the directory that *node* was told in, 0 if it was not from here."""

    def lent_where(self, node: int) -> tuple[int, bytes, int] | None:
        """Return where *node* is that was told from here, None for another.

        The number of the lent directory above it that Python knows, the path from there, with a
        leading slash, and the number of its layer.
        """

    def lent_moved(self, node: int, above: int) -> None:
        """Note that the lent directory *node*, if it is one, has another parent."""

    def lent_copied(self, node: int) -> None:
        """Note that the directory *node* was copied up: lent or not, its attributes may change."""

    def lent_entries(self, node: int) -> tuple[dict[bytes, int], list[int] | None] | None:
        """Return what the lent directory *node* holds, as ``union.scan.Listed`` has it.

        None if it is not lent, or that is not known here but from an index.
        """

    def take_back(self, node: int) -> TakenBack | None:
        """Answer for the directory *node* no more, None if it is not lent.

        What is known in it is Python's from then on, and so are the numbers that were told.
        Raises MemoryError.
        """

    def lent_roots(self) -> list[int]:
        """Return the lent directories that Python knows."""

    def lent_total(self) -> int:
        """Return how many nodes are known in lent directories."""

    def lent_lose(self, node: int) -> None:
        """Forget the lent *node* and all that is known below it."""

    def lent_take(self, node: int) -> None:
        """Tell of no file by the number *node*, which Python gave to one. Raises MemoryError."""

    def lent_leave(self, node: int) -> None:
        """Note that Python's node of the number *node* is forgotten."""

    def lent_has(self, node: int) -> bool:
        """Return whether a file was told by the number *node*, which Python does not know."""

    def lent_wanted(self) -> None:
        """Note that a file was looked up that had been listed by its name only."""

    def lent_end(self, node: int) -> bool:
        """Answer for the directory *node* no more, unless something in it is known: say so."""

    def serve_directly(
        self,
        forget: Callable[[int, int], None],
        unlink: Callable[[int, bytes], int | None] | None,
        rmdir: Callable[[int, bytes], int | None] | None,
        rename: Callable[[int, bytes, int, bytes], int | None] | None,
        create: Callable[[int, bytes, int, int, int, int, int], int | None] | None,
    ) -> None:
        """Ask these functions, before pyfuse3's handlers, where they are not None (``direct``).

        They return 0 or an errno when it is done, None when it is not begun. *create* gets parent,
        name, mode, umask, and user, group and process ID.
        """

    def answered_directly(self) -> int:
        """Return how many requests they answered, FORGETs aside."""

    def tell_done(self) -> None:
        """Answer the request that one of them is asked about, which goes on: it is done."""

    def tell_created(self, ino: int, generation: int, fd: int) -> None:
        """The same of *create*: the new file's number, and a descriptor, whose inode says all.

        Raises OSError.
        """

    def tell_removed(self, removed: Callable[[int, bytes], None]) -> None:
        """Call *removed* with a directory's number, and names that went by ``share_removable``.

        There are NULs between them. No other function is called before.
        """

    def removed_in_a_row(self, node: int) -> int:
        """Return how many names of the directory *node* were removed here, one just now.

        Since anything else was changed; 0 if ``share_removable`` was called since then, or would be
        in vain.
        """

    def share_removable(
        self, node: int, fd: int, whiteout: bytes, names: bytes, count: int
    ) -> None:
        """Answer UNLINK of *names* in the directory *node*, for which a whiteout does.

        *count* of them, NUL between them; until something else changes. One is made as a link of
        *whiteout*, in the directory *fd*, in the directory that ``share_dir`` has.
        """

    def answered(self) -> int:
        """Return how many requests were answered without Python."""

    def write_after_init(self, fd: int, text: bytes) -> None:
        """Write *text* (at most 31 bytes) to *fd* when INIT has been answered, and close it."""

    def set_spin(self, limit: int) -> None:
        """Let reads of an empty queue try again for at most *limit* microseconds; 0: never."""

    def set_nap(self, limit: int) -> None:
        """Let reads of an empty queue wait for at most *limit* milliseconds; 0: not at all."""

    def spun(self) -> tuple[int, int]:
        """Return how long reads tried again (ns), and how many requests that caught."""

    def operations(self) -> dict[int, Counted]:
        """Return what requests there were, by opcode."""

    def no_files_ahead(self) -> None:
        """Ask for no file ahead (``_nextfiles.c``)."""

    def read_ahead(self) -> tuple[int, int]:
        """Return how many files were asked of the disk ahead, and how many read as foreseen."""

    def trace_for(self, pids: bytes) -> None:
        """Make records of requests from now on (``tracer``), in the room for some 2,000.

        But not of the asking by the processes *pids* (numbers of 32 bits); without any no more, and
        what there is is gone. Raises MemoryError.
        """

    def trace_waiting(self) -> int:
        """Return how many records there are."""

    def trace_mentions(self, node: int) -> bool:
        """Return whether one of them is about *node* (its number)."""

    def trace_take(self) -> tuple[bytes, bytes, int]:
        """Return the records, which are then gone, the names in them, and how many were lost.

        For their form see ``inspect.records``.
        """

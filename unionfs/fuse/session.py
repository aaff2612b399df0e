"""One mount, from its configuration to its end."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Sequence
from dataclasses import replace

import pyfuse3

from unionfs.errors import ConflictError, UnavailableError
from unionfs.fuse import loop, native, threads
from unionfs.fuse.ahead import read_ahead
from unionfs.fuse.direct import Direct
from unionfs.fuse.measured import Measured
from unionfs.fuse.operations import Operations
from unionfs.fuse.owners import owners_of, squashes
from unionfs.fuse.passing import Passing, refuse_writers
from unionfs.fuse.rebase import Rebasing
from unionfs.fuse.told import Told
from unionfs.fuse.tracer import Tracer
from unionfs.ondisk import override
from unionfs.ondisk.flavour import Flavour
from unionfs.options import MountConfig
from unionfs.syscalls.capability import CAP_CHOWN, has_capability
from unionfs.syscalls.idmap import own_ids
from unionfs.union.layer import FdPool, Layer
from unionfs.union.merged import MergedIndex
from unionfs.union.override import OverrideTree
from unionfs.union.stack import find_overrides, flavour_of, open_layers, tree_of
from unionfs.upper.create import Owner
from unionfs.upper.upper import Upper
from unionfs.upper.work import WorkDir, claim

_WORKERS = 64  # requests that may be waiting for a copy or a sync at a time


class LoopError(ConflictError):
    """The mount point, the layers, the upper and the work directory are inside one another."""


class Session:
    """A mount of *config* on *target*.

    ``__init__`` opens and checks everything, ``mount`` mounts, ``serve`` answers requests until the
    mount is gone, ``close`` releases everything; it may be called at any point after ``__init__``.
    """

    def __init__(self, config: MountConfig, target: bytes) -> None:
        """Open the layers, the upper and the work directory.

        Raises UnionfsError naming the directory that is missing, in use or in the wrong place, and
        OSError.
        """
        self.config = config
        self.target = target
        self._mounted = False
        flavour = flavour_of(config.userxattr)
        self._work: WorkDir | None = None
        self._upper: Upper | None = None
        pool = FdPool(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        pool.warm_up = native.hooks.warm_up if native.hooks is not None else None
        layers: list[Layer] = []
        try:
            writable = config.upperdir is not None and not config.read_only
            open_layers(layers, config.upperdir, config.lowerdirs, flavour, pool, aufs=config.aufs)
            _refuse_loops(config, target)
            if config.upperdir is not None and config.workdir is not None:
                self._work = WorkDir(config.workdir, writable=writable)
                claim(layers[0])
            if config.aufs or flavour is Flavour.USER:
                _find_overrides(config, layers)
            self._tree = tree_of(layers, pool)
            if config.merged_index and config.index is not None:
                self._tree.merged = merged = MergedIndex.open(config.index, self._tree.lowers())
                if merged is not None and config.atime:
                    merged.has_attributes = False  # access times change with each read
            gives_owners = _gives_owners(config, layers[0])
            if self._work is not None:
                self._upper = Upper(
                    self._tree,
                    self._work,
                    volatile=config.volatile and writable,
                    redirect_dir=config.redirect_dir,
                    gives_owners=gives_owners,
                )
        except BaseException:
            for layer in layers:
                layer.close()
            if self._work is not None:
                self._work.close()
            raise
        self._operations = self._kind_of_operations()(
            self._tree, self._upper, read_only=not writable
        )
        own = Owner(os.geteuid(), os.getegid())
        owners = owners_of(config, own, gives_owners=gives_owners)
        if owners is not None:
            self._operations.map_owners(owners)
        self._operations.offer(acl=config.acl, xattrs=config.xattrs)
        self._operations.inodes.static_nlink = config.static_nlink
        self._operations.record = config.record
        self._flavour = flavour
        self._measured = Measured(self._operations, config, flavour)
        self._tracer = Tracer(self._operations.inodes, config, self._measured.request_count)
        self._rebasing: Rebasing | None = None
        self._tell()

    def _tell(self) -> None:
        if self.config.xattrinfo:
            document = self._measured.document
            told = Told(self._tree, self.config, self._flavour, document, self._tracer)
            self._operations.tell(told, self._tracer)

    def _kind_of_operations(self) -> type[Operations]:
        """Return who checks permissions: the kernel, unless it would keep the user out.

        In his own mount, which shows other owners than him, an ordinary user is root.
        """
        if os.geteuid() == 0 or not isinstance(self._tree, OverrideTree):
            return Operations
        if self.config.allow_other or self.config.allow_root:
            from unionfs.fuse.shared import SharedOperations

            return SharedOperations
        from unionfs.fuse.rooted import RootedOperations

        return RootedOperations

    def mount(self) -> None:
        """Mount. Raises UnavailableError where the machine does not let us."""
        if not os.path.exists("/dev/fuse"):
            raise UnavailableError("/dev/fuse is missing: load the kernel's fuse module")
        if self.config.passthrough:
            self._operations.files.passing = Passing(self._operations.upper)
        others = _fuse_descriptors()  # inherited: they are no business of ours
        try:
            options = _fuse_options(self._config_for_kernel())
            pyfuse3.init(self._operations, os.fsdecode(self.target), options)
        except RuntimeError as error:
            raise UnavailableError(f"cannot mount on {os.fsdecode(self.target)}: {error}") from None
        self._mounted = True
        (descriptor,) = _fuse_descriptors() - others
        self._measured.readahead = read_ahead(self.target, self.config.readahead)
        if native.hooked():
            assert native.hooks is not None
            native.hooks.set_near(self._operations.inodes.numbers.near_bits)
            native.hooks.set_root_number(self._operations.inodes.root_number())
            record = self.config.record
            handles = self._operations.shared or self.config.passthrough or record
            if handles:
                native.hooks.hear_releases()
            if not (self._operations.shared or record):
                self._operations.serve_by_node(files=not handles)
                if not handles:
                    self._lend()
            if not self._operations.shared:
                self._operations.share_xattrless()
            if self.config.readahead == 0:
                native.hooks.no_files_ahead()
            self._serve_directly()
            loop.install_hooked(descriptor, spin=self.config.spin)
        else:
            loop.install(descriptor)
        threads.install(descriptor)

    def _serve_directly(self) -> None:
        """Answer without pyfuse3 what can be, where the kernel has checked permissions."""
        operations = self._operations
        files = operations.files
        creates = files.by_node and files.inode_says_all and operations.owners is None
        Direct(operations).serve(names=not operations.shared, creates=creates)

    def _lend(self) -> None:
        """Lend directories to the extension, where it would tell of files what Python does."""
        operations, config = self._operations, self.config
        as_on_disk = not config.atime and operations.owners is None
        if config.lend and as_on_disk:
            operations.inodes.lending.begin(xattrs=operations.acl)

    def _config_for_kernel(self) -> MountConfig:
        if self._operations.rooted:
            return replace(self.config, default_permissions=False)
        return self.config

    async def serve(self) -> None:
        """Answer requests until the file system is unmounted or ``terminate`` is called.

        Or until the connection is aborted (Documentation/filesystems/fuse.rst, "Aborting a
        filesystem connection"): the kernel says ENODEV of that, as of an unmount, or ECONNABORTED
        where libfuse asked for the difference, which pyfuse3 knows nothing of.
        """
        try:
            await pyfuse3.main(max_tasks=_WORKERS)
        except* ConnectionAbortedError:
            pass

    async def freeze(self) -> None:
        """Answer nothing more, and return when nothing is under way.

        Raises OSError, and BusyFileError where the kernel may write to a file by itself.
        """
        await loop.freeze()
        await self._operations.look_at_maps()
        refuse_writers(self._operations.files.opened())

    def thaw(self) -> None:
        """Answer again."""
        loop.thaw()

    def prepare(self, stack: MountConfig) -> None:
        """Get ready for ``go_on`` with the directories of *stack*; while frozen.

        Raises UnionfsError naming what would be another file, and OSError.
        """
        self.stay()
        self._rebasing = Rebasing(self._operations, stack)

    def is_prepared(self) -> bool:
        """Return whether ``go_on`` may be called."""
        return self._rebasing is not None

    def stay(self) -> None:
        """Go on as before after all, if ``prepare`` was called."""
        if self._rebasing is not None:
            self._rebasing.give_up()
            self._rebasing = None

    def go_on(self) -> None:
        """Be on what was prepared from now on.

        Its upper and work directories are about to be renamed to where the old ones were.
        """
        assert self._rebasing is not None
        rebasing, self._rebasing = self._rebasing, None
        self._operations.settle()
        rebasing.apply()
        stack = rebasing.stack
        self.config = replace(
            self.config, lowerdirs=stack.lowerdirs, lower_names=stack.lower_names, index=None
        )
        self._tracer.go_on(self.config)
        self._tell()

    def terminate(self) -> None:
        """Make ``serve`` return; for a task of the same loop. Copies under way end with EIO."""
        self._operations.leaving = True
        self.stay()
        loop.thaw()
        pyfuse3.terminate()

    def close(self) -> None:
        """Unmount if still mounted, and release everything."""
        self._tracer.finish()
        if self._mounted:
            pyfuse3.close(unmount=True)
            self._mounted = False
        self._operations.files.close_all()
        self._tree.close()  # before work: who gets that lock may remove the layers as well
        if self._upper is not None:
            self._upper.close()
        elif self._work is not None:
            self._work.close()


def _find_overrides(config: MountConfig, layers: list[Layer]) -> None:
    """Note which layers keep owners in an attribute: those whose root has it, and the upper.

    Raises OSError.
    """
    find_overrides(layers)
    upper = layers[0]
    if upper.number == 0 and upper.override is None and not config.read_only:
        _mark_upper(config, upper, layers[1:])


def _mark_upper(config: MountConfig, upper: Layer, lowers: list[Layer]) -> None:
    """Let *upper* keep owners in an attribute if that is asked for, or nothing else can be done.

    Its root then looks as that of the topmost lower which says so.
    """
    marked = next((lower for lower in lowers if lower.override is not None), None)
    spelling = override.BY_NUMBER.get(config.xattr_permissions)
    if spelling is None and upper.flavour is Flavour.USER and marked is not None:
        spelling = override.Spelling.CONTAINERS
    if spelling is None:
        return
    found = None
    if marked is not None and marked.override is not None:
        found = override.read(marked.root.fd(), marked.override)
    override.write(upper.root.fd(), spelling, found or override.ROOT_UNKNOWN)
    upper.keep_owners_as(spelling)


def _gives_owners(config: MountConfig, top: Layer) -> bool:
    """Return whether files get the owners that they should have.

    Where all are shown as one's, only if this process can do it for any owner that there may be.
    """
    if not squashes(config) or top.override is not None:
        return True
    return has_capability(CAP_CHOWN) and own_ids() is None


def _refuse_loops(config: MountConfig, target: bytes) -> None:
    """Refuse directories inside one another, where a mount would change its own layers.

    The mount point may be inside no layer and equal to none; the upper and the work directory may
    be neither in each other nor in a lower, nor the other way round (HOSTILE cases of fuse and
    overlayfs mounts that hang).
    """
    lowers = [("lowerdir", path) for path in config.lowerdirs]
    writable = []
    if config.upperdir is not None and config.workdir is not None:
        writable = [("upperdir", config.upperdir), ("workdir", config.workdir)]
    for position, (what, path) in enumerate(writable):
        others = writable[position + 1 :] + lowers
        _refuse_nested(what, path, others)
    _refuse_target(target, writable + lowers)


def _refuse_nested(what: str, path: bytes, others: Sequence[tuple[str, bytes]]) -> None:
    mine = os.path.realpath(path)
    for kind, other in others:
        theirs = os.path.realpath(other)
        if mine == theirs or _inside(mine, theirs) or _inside(theirs, mine):
            raise LoopError(
                f"{what} {os.fsdecode(path)} and {kind} {os.fsdecode(other)}"
                " must not be in one another"
            )


def _refuse_target(target: bytes, others: Sequence[tuple[str, bytes]]) -> None:
    mine = os.path.realpath(target)
    for kind, other in others:
        theirs = os.path.realpath(other)
        if (
            mine == theirs
            or _inside(mine, theirs)
            or (kind != "lowerdir" and _inside(theirs, mine))
        ):
            raise LoopError(
                f"mount point {os.fsdecode(target)} and {kind} {os.fsdecode(other)}"
                " must not be in one another"
            )


def _inside(path: bytes, directory: bytes) -> bool:
    return path.startswith(directory.rstrip(b"/") + b"/")


def _fuse_options(config: MountConfig) -> set[str]:
    """Return what libfuse and mount(2) are told of *config*."""
    flags = {
        "default_permissions": config.default_permissions,
        "allow_other": config.allow_other,
        "allow_root": config.allow_root,
        "ro": config.read_only or config.upperdir is None,
        "nosuid": not config.suid,
        "suid": config.suid,
        "nodev": not config.dev,
        "dev": config.dev,
        "noexec": not config.exec_,
        "noatime": not config.atime,
        "debug": config.debug,
    }
    options = {name for name, wanted in flags.items() if wanted}
    if config.context is not None:
        options.add("context=" + _escaped(f'"{config.context}"'))
    options.add("fsname=" + _escaped(config.fsname))
    options.add("subtype=" + _escaped(config.subtype))
    return options


def _escaped(text: str) -> str:
    """Escape what libfuse's option parser would split at; it takes ASCII only."""
    plain = text.encode("ascii", "replace").decode()
    return plain.replace("\\", "\\\\").replace(",", "\\,")


def _fuse_descriptors() -> set[int]:
    """Return this process's descriptors of /dev/fuse; pyfuse3 keeps the session's to itself."""
    found = set()
    device = os.stat("/dev/fuse").st_rdev
    for name in os.listdir("/proc/self/fd"):
        try:
            st = os.fstat(int(name))
        except OSError:
            continue
        if stat.S_ISCHR(st.st_mode) and st.st_rdev == device:
            found.add(int(name))
    return found

"""Making files, directories, links and special files.

A new file that needs nothing but its mode is made in place: one system call, which is atomic by
itself. One that needs more (another owner than the daemon's, a whiteout to replace, an opaque mark)
is finished under a temporary name and then renamed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from unionfs.ondisk.override import Override, make_stand_in
from unionfs.ondisk.whiteout import AUFS_PREFIX
from unionfs.syscalls import flags, xattr
from unionfs.syscalls.at import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    name_path,
    open_dir,
    proc_path,
    renameat2,
)
from unionfs.union.layer import Part
from unionfs.union.node import Node
from unionfs.upper import beside, index, overrides, whiteouts
from unionfs.upper.copyup import ensure_dir
from unionfs.upper.holding import take_place
from unionfs.upper.upper import Upper
from unionfs.upper.work import clear_away, discard

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
DEFAULT_ACL = b"system.posix_acl_default"
_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_STAGE = b"stage"  # in the work directory


class Owner(NamedTuple):
    """Who a new file belongs to: the caller's user and group IDs."""

    uid: int
    gid: int


class _Plan(NamedTuple):
    """How to make a file: ``make(dir_fd, name)``, and what it is to be afterwards.

    ``staged``: making takes several steps, so nobody may see it before it is finished.
    """

    kind: int
    mode: int
    owner: Owner
    make: Callable[[int, bytes], None]
    staged: bool = False
    device: int = 0


def check_name(name: bytes) -> None:
    """Refuse names that other drivers would read as whiteouts: EINVAL, as in fuse-overlayfs."""
    if name.startswith(AUFS_PREFIX):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), os.fsdecode(name))


def check_device(mode: int, device: int) -> None:
    """Refuse a character device 0:0 with EPERM, as the kernel's overlayfs does."""
    if stat.S_ISCHR(mode) and device == 0:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def create_file(
    upper: Upper, parent: Node, name: bytes, mode: int, owner: Owner
) -> tuple[Node, int]:
    """Make the regular file *name* with permissions *mode* (octal, umask applied) and open it.

    Returns its node and a descriptor for reading and writing. Raises OSError.
    """
    above = _free(upper, parent, name)
    fd = -1
    try:
        if owner == (upper.uid, upper.gid) and upper.override is None:
            try:
                fd = os.open(name, _CREATE, mode, dir_fd=above.fd())
            except FileExistsError:
                pass  # a whiteout, that is
        if fd < 0:
            fd = _create_file_staged(upper, above, name, mode, owner)
        return _made(parent, name, stat.S_IFREG), fd
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise


def _create_file_staged(upper: Upper, above: Part, name: bytes, mode: int, owner: Owner) -> int:
    fd = -1

    def make(dir_fd: int, at: bytes) -> None:
        nonlocal fd
        fd = os.open(at, _CREATE, _first_mode(upper, mode), dir_fd=dir_fd)

    try:
        _create_staged(upper, above, name, _Plan(stat.S_IFREG, mode, owner, make))
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise
    return fd


def _first_mode(upper: Upper, mode: int) -> int:
    """Return the permissions to make a file with that is to have *mode* (octal).

    Where those are written down in an attribute, an ordinary user must be able to write to it for
    that; ``overrides.write`` sets what is right.
    """
    return mode if upper.override is None else mode | stat.S_IRWXU


def inherits_acl(directory: Part) -> bool:
    """Return whether new files in the upper *directory* get an ACL from it, and no umask counts.

    Remembered: who changes the attribute forgets it (``Part.default_acl``). Raises OSError.
    """
    if directory.default_acl is None:
        name = directory.layer.names.to_disk(DEFAULT_ACL)
        directory.default_acl = xattr.get(directory.fd(), name) is not None
    return directory.default_acl


def make_nameless(upper: Upper, parent: Node, mode: int, owner: Owner) -> tuple[Node, int]:
    """Make a regular file without a name, as O_TMPFILE in *parent* does, which may get one later.

    Returns its node and a descriptor for reading and writing. Raises OSError; EOPNOTSUPP where the
    upper's filesystem has no such files.
    """
    above = ensure_dir(upper, parent)
    first = _first_mode(upper, mode)
    fd = os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, first, dir_fd=above.fd())
    try:
        if upper.override is not None:
            value = Override(owner.uid, owner.gid, mode, stat.S_IFREG)
            overrides.dress_new(upper, above, fd, value)
        elif owner != (upper.uid, upper.gid):
            _give_owner_to_fd(above, fd, mode, owner)
        node = Node(parent, b"", stat.S_IFREG)
        st = os.fstat(fd)
        node.identity = (st.st_dev, st.st_ino)
        node.anchor = os.open(proc_path(fd), os.O_PATH | os.O_CLOEXEC)
        node.dead = True
        node.protection = 0
        node.unmarked = True
    except BaseException:
        os.close(fd)
        raise
    return node, fd


def _give_owner_to_fd(above: Part, fd: int, mode: int, owner: Owner) -> None:
    directory = os.fstat(above.fd())
    gid = directory.st_gid if directory.st_mode & stat.S_ISGID else owner.gid
    made = os.fstat(fd)
    os.fchown(fd, owner.uid, gid)
    if mode & _SPECIAL:  # chown takes some of them
        os.fchmod(fd, stat.S_IMODE(made.st_mode) | mode & _SPECIAL)


def make_dir(upper: Upper, parent: Node, name: bytes, mode: int, owner: Owner) -> Node:
    """Make the directory *name*; returns its node. Raises OSError."""
    upper.tree.load(parent)
    # An AUFS whiteout, which hides the lower directory, is beside our name and stays there.
    opaque = upper.layer.aufs and upper.tree.lower_shows(parent, name)

    def make(dir_fd: int, at: bytes) -> None:
        os.mkdir(at, _first_mode(upper, mode), dir_fd=dir_fd)
        if opaque:
            xattr.set_(name_path(dir_fd, at), upper.flavour.opaque, b"y")

    node = _create(upper, parent, name, _Plan(stat.S_IFDIR, mode, owner, make, staged=opaque))
    node.parts = [Part(upper.layer, upper.part(parent), name, upper.tree.pool)]
    node.children = {}
    return node


def make_special(
    upper: Upper, parent: Node, name: bytes, mode: int, device: int, owner: Owner
) -> Node:
    """Make the device, fifo, socket or regular file that *mode* (with its type) says.

    Raises OSError; EPERM for a character device 0:0, which would be a whiteout.
    """
    check_device(mode, device)

    def make(dir_fd: int, at: bytes) -> None:
        os.mknod(at, mode, device, dir_fd=dir_fd)

    plan = _Plan(stat.S_IFMT(mode), stat.S_IMODE(mode), owner, make, device=device)
    if upper.override is not None:
        plan = plan._replace(make=make_stand_in)
    return _create(upper, parent, name, plan)


def make_symlink(upper: Upper, parent: Node, name: bytes, target: bytes, owner: Owner) -> Node:
    """Make the symbolic link *name* to *target*. Raises OSError."""

    def make(dir_fd: int, at: bytes) -> None:
        os.symlink(target, at, dir_fd=dir_fd)

    plan = _Plan(stat.S_IFLNK, 0o777, owner, make)
    if upper.override is not None:
        plan = plan._replace(make=partial(make_stand_in, content=target))
        upper.links_made += 1
    return _create(upper, parent, name, plan)


def make_link(upper: Upper, node: Node, parent: Node, name: bytes) -> None:
    """Give *node*, which is in the upper, the further name *name* in *parent*.

    For a file without a name (``make_nameless``) that is its first. Raises OSError.
    """
    check_name(name)
    upper.tree.load(parent)
    above = ensure_dir(upper, parent)
    index.pin_to_upper(upper, node)
    if _has_origin(upper, node):
        _mark_impure(upper, above)
    try:
        index.link_node(upper, node, above.fd(), name)
    except FileExistsError:
        temporary = upper.work.temporary()
        index.link_node(upper, node, upper.work.fd, temporary)
        try:
            _replace_whiteout(upper, temporary, above, name)
        except BaseException:
            clear_away(upper.work.fd, temporary)
            raise
    if node.nlink:
        node.nlink += 1
    node.dead = False
    take_place(upper, parent, name, node)
    _register(upper, node)
    node.attr = None


def _has_origin(upper: Upper, node: Node) -> bool:
    if node.unmarked:
        return False
    if node.nlink:
        return True
    return beside.get(upper, upper.tree.target(node), upper.flavour.origin) is not None


def _mark_impure(upper: Upper, above: Part) -> None:
    """Note on *above* that it holds a file whose number comes from a lower layer."""
    if not above.impure:
        xattr.set_(above.fd(), upper.flavour.impure, b"y")
        above.impure = True


def _register(upper: Upper, node: Node) -> None:
    """From now on *node* has several names: make it findable under each."""
    if node.identity is not None:
        upper.tree.links.setdefault(node.identity, node)


def _create(upper: Upper, parent: Node, name: bytes, plan: _Plan) -> Node:
    """Carry out *plan* at *name* in *parent* and return the new node."""
    above = _free(upper, parent, name)
    if plan.owner == (upper.uid, upper.gid) and not plan.staged and upper.override is None:
        try:
            plan.make(above.fd(), name)
        except FileExistsError:
            _create_staged(upper, above, name, plan)
    else:
        _create_staged(upper, above, name, plan)
    return _made(parent, name, plan.kind)


def _free(upper: Upper, parent: Node, name: bytes) -> Part:
    """Return the upper part of *parent*, where *name* may be made. Raises OSError."""
    check_name(name)
    if name in upper.tree.load(parent):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(name))
    return ensure_dir(upper, parent)


def _made(parent: Node, name: bytes, kind: int) -> Node:
    """Return the node of the file *name* that was made in *parent*, which is loaded."""
    assert parent.children is not None
    node = parent.children[name] = Node(parent, name, kind)
    node.protection = 0
    node.unmarked = True
    return node


def _create_staged(upper: Upper, above: Part, name: bytes, plan: _Plan) -> None:
    """Make the file in the work directory, give it its owner, and move it to its place."""
    stage, temporary = _stage(upper, above)
    try:
        plan.make(stage, temporary)
        if upper.override is not None:
            value = Override(*plan.owner, plan.mode, plan.kind, plan.device)
            overrides.dress_new(upper, above, name_path(stage, temporary), value)
        else:
            _give_owner(above, stage, temporary, plan)
        try:
            renameat2(stage, temporary, above.fd(), name, RENAME_NOREPLACE)
        except FileExistsError:
            if plan.kind == stat.S_IFDIR:
                xattr.set_(name_path(stage, temporary), upper.flavour.opaque, b"y")
            _replace_whiteout(upper, temporary, above, name, stage=stage)
    except BaseException:
        clear_away(stage, temporary)
        raise
    finally:
        if stage != upper.work.fd:
            os.close(stage)
            clear_away(upper.work.fd, _STAGE)


def _stage(upper: Upper, above: Part) -> tuple[int, bytes]:
    """Return a directory to make a file in, and a free name there.

    Where *above* has a default ACL, or flags that may be passed on, the filesystem itself has to
    apply them, so the file is made in a temporary directory that has the same.
    """
    inherits = upper.override is None and inherits_acl(above)
    acl = xattr.get(above.fd(), DEFAULT_ACL) if inherits else None
    if above.passed_on is None:
        above.passed_on = flags.describing(above.fd())
    if acl is None and not above.passed_on:
        return upper.work.fd, upper.work.temporary()
    work = upper.work.fd
    discard(work, _STAGE)
    os.mkdir(_STAGE, 0o700, dir_fd=work)
    stage = -1
    try:
        stage = open_dir(work, _STAGE)
        if acl is not None:
            xattr.set_(stage, DEFAULT_ACL, acl)
        flags.describe(stage, above.passed_on)
    except BaseException:
        if stage >= 0:
            os.close(stage)
        clear_away(work, _STAGE)
        raise
    return stage, b"new"


def _give_owner(above: Part, stage: int, temporary: bytes, plan: _Plan) -> None:
    """Set owner and group, which in a set-group-ID directory is the directory's (inode(7))."""
    directory = os.fstat(above.fd())
    gid, mode = plan.owner.gid, plan.mode
    if directory.st_mode & stat.S_ISGID:
        gid = directory.st_gid
        if plan.kind == stat.S_IFDIR:
            mode |= stat.S_ISGID
    os.chown(temporary, plan.owner.uid, gid, dir_fd=stage, follow_symlinks=False)
    if plan.kind != stat.S_IFLNK and mode & _SPECIAL:
        made = os.stat(temporary, dir_fd=stage, follow_symlinks=False)
        os.chmod(temporary, stat.S_IMODE(made.st_mode) | mode & _SPECIAL, dir_fd=stage)


def _replace_whiteout(
    upper: Upper, temporary: bytes, above: Part, name: bytes, *, stage: int | None = None
) -> None:
    """Put *temporary* in the place of the whiteout *name* in *above*, in one step.

    Raises FileExistsError if something else is there (behind our back).
    """
    source = upper.work.fd if stage is None else stage
    fd = above.fd()
    if not whiteouts.is_at(above, name):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(name))
    renameat2(source, temporary, fd, name, RENAME_EXCHANGE)
    clear_away(source, temporary)

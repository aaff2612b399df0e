"""Changing owners, modes and types in an upper that keeps them in an attribute.

The counterpart of ``union.override``: what the filesystem of another upper does by itself (the
group of set-group-ID directories, inherited ACLs, set-id bits that a change takes away) is done
here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

from unionfs.ondisk import acl, override
from unionfs.ondisk.override import Override, Spelling
from unionfs.syscalls import xattr
from unionfs.syscalls.at import PathFd, proc_path
from unionfs.syscalls.capability import CAPABILITY
from unionfs.union.layer import Part
from unionfs.union.node import Node
from unionfs.upper.upper import Upper

IsMember = Callable[[int, int], bool]
"""Whether somebody is in the group of a file of this owner and group (IDs), or may as much."""

_ACLS = (acl.ACCESS, acl.DEFAULT)


def concerns(upper: Upper, node: Node) -> bool:
    """Return whether the file of *node* is one that says what it is.

    Not so are links and special files that another program left here as what they are: they take no
    such attribute. Raises OSError.
    """
    if node.kind in (stat.S_IFREG, stat.S_IFDIR) or upper.override is Spelling.PRIVILEGED:
        return True
    if node.anchor >= 0:
        st = os.fstat(node.anchor)
    else:
        directory, name = upper.tree.place(node)
        st = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return stat.S_ISREG(st.st_mode)


def write(upper: Upper, target: int | bytes, value: Override, was: Override | None = None) -> None:
    """Let the upper file *target* be shown as *value*. Raises OSError.

    The attribute comes first: its owner may do less with the file afterwards, never more. Where its
    permissions cannot follow, it is shown as *was* again.
    """
    override.write(target, _spelling(upper), value)
    undo = partial(override.write, target, _spelling(upper), was) if was is not None else None
    with _undone(undo):
        chmod_on_disk(target, override.disk_mode(value.kind, value.mode))


@contextlib.contextmanager
def _undone(undo: Callable[[], object] | None) -> Iterator[None]:
    """Do the second half of a change; should it fail, *undo* the first and raise its exception."""
    try:
        yield
    except BaseException:
        if undo is not None:
            with contextlib.suppress(OSError):
                undo()
        raise


def chmod_on_disk(target: int | bytes, mode: int) -> None:
    """Set the permissions *mode* of *target*, which is no symbolic link. Raises OSError."""
    os.chmod(proc_path(target) if isinstance(target, PathFd) else target, mode)


def dress_new(upper: Upper, above: Part, target: int | bytes, value: Override) -> None:
    """Give the new file *target* in the directory *above* what *value* asks for.

    Its group and its ACLs may come from the directory (inode(7), acl(5)). Raises OSError.
    """
    kept = override.read(above.fd(), _spelling(upper))
    directory = override.of(upper.tree.stat_of(above)) if kept is None else kept
    mode, gid = value.mode, value.gid
    if directory.mode & stat.S_ISGID:
        gid = directory.gid
        if value.kind == stat.S_IFDIR:
            mode |= stat.S_ISGID
    default = _get(upper, above.fd(), acl.DEFAULT) if value.kind != stat.S_IFLNK else None
    if default is not None:
        entries, mode = acl.inherited(acl.decode(default), mode)
        if acl.is_extended(entries):
            _set(upper, target, acl.ACCESS, acl.encode(entries))
        if value.kind == stat.S_IFDIR:
            _set(upper, target, acl.DEFAULT, default)
    write(upper, target, value._replace(mode=mode, gid=gid))


def chmod(upper: Upper, node: Node, mode: int) -> None:
    """Set the permissions that *node* is shown with (octal); an ACL goes along. Raises OSError.

    Before the ACL lets more people in, set-id bits are gone that go, and a sticky bit that comes is
    there.
    """
    target = upper.tree.target(node)
    was = _current(upper, target, node)
    found = _get(upper, target, acl.ACCESS)
    if found is None:
        write(upper, target, was._replace(mode=mode), was)
        return
    first = was._replace(mode=_strictest(was.mode, mode))
    if first != was:
        write(upper, target, first, was)
    with _undone(partial(write, upper, target, was)):
        _set(upper, target, acl.ACCESS, acl.encode(acl.after_chmod(acl.decode(found), mode)))
        with _undone(partial(_set, upper, target, acl.ACCESS, found)):
            write(upper, target, was._replace(mode=mode), first)


def _strictest(was: int, mode: int) -> int:
    """Return the permissions *was* with the set-id bits that *mode* has, too, and either's sticky.

    All octal.
    """
    special = was & mode & (stat.S_ISUID | stat.S_ISGID) | (was | mode) & stat.S_ISVTX
    return was & 0o777 | special


def chown(upper: Upper, node: Node, uid: int, gid: int) -> None:
    """Set the owner and group that *node* is shown with; -1 leaves one as it is.

    Set-id bits and capabilities of what is no directory go, as with chown(2). Raises OSError.
    """
    target = upper.tree.target(node)
    was = _current(upper, target, node)
    value = was._replace(uid=was.uid if uid == -1 else uid, gid=was.gid if gid == -1 else gid)
    if node.is_dir:
        write(upper, target, value, was)
    else:
        _drop(upper, target, CAPABILITY)  # first, as the kernel does: failing, it changes nothing
        kept = without_set_id(value.mode, (value.uid, value.gid), lambda *owner: True)
        write(upper, target, value._replace(mode=kept), was)


def privileges_go(upper: Upper, fd: int, is_member: IsMember | None) -> bool | None:
    """Take from the file *fd*, which changes, its capabilities, and with *is_member* set-id bits.

    As ``attributes.drop_set_id``. Returns None where set-id bits are still to be taken from the
    inode: it is what is shown of a file that another program left. Raises OSError.
    """
    _drop(upper, fd, CAPABILITY)
    if is_member is None:
        return False
    value = override.read(fd, _spelling(upper))
    if value is None:
        return None
    kept = without_set_id(value.mode, (value.uid, value.gid), is_member)
    if kept == value.mode:
        return False
    write(upper, fd, value._replace(mode=kept), value)
    return True


def kept_as(upper: Upper, fd: int) -> Override | None:
    """Return what the file *fd* is kept as, None where that is for its inode to say."""
    return override.read(fd, upper.override) if upper.override is not None else None


def without_set_id(mode: int, owner: tuple[int, int], is_member: IsMember) -> int:
    """Return the permissions in *mode* without set-id bits, of a file of *owner* and group (IDs).

    The set-group-ID bit is no such bit without group execution; then only who is not in the file's
    group loses it (fs/attr.c, setattr_should_drop_sgid()).
    """
    kept = stat.S_IMODE(mode) & ~stat.S_ISUID
    if kept & stat.S_ISGID and (kept & stat.S_IXGRP or not is_member(*owner)):
        kept &= ~stat.S_ISGID
    return kept


def set_xattr(upper: Upper, node: Node, name: bytes, value: bytes, flags: int) -> None:
    """Set the attribute that users of the mount call *name*; an ACL changes the mode as well.

    Raises OSError.
    """
    target = upper.tree.target(node)
    if name == acl.DEFAULT and not node.is_dir:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    entries = acl.decode(value) if name in _ACLS else None
    if entries is not None and name == acl.ACCESS:
        _set_acl(upper, node, target, entries, value, flags)
    elif entries is not None and not entries:
        _drop(upper, target, name)
    else:
        xattr.set_(target, upper.names.to_disk(name), value, flags)


def _set_acl(
    upper: Upper, node: Node, target: int | bytes, entries: acl.Acl, value: bytes, flags: int
) -> None:
    """Give *node* the ACL *entries*, which *value* is on disk, and their permission bits.

    The permissions of a group that are more with an ACL are its mask: so the ACL is there before
    the mode says so, and the mode is less before an ACL goes.
    """
    was = _current(upper, target, node)
    mode = was._replace(mode=was.mode & ~0o777 | acl.mode_of(entries))
    if not acl.is_extended(entries):
        write(upper, target, mode, was)
        with _undone(partial(write, upper, target, was)):
            _drop(upper, target, acl.ACCESS)
        return
    before = _get(upper, target, acl.ACCESS)
    xattr.set_(target, upper.names.to_disk(acl.ACCESS), value, flags)
    put_back = partial(_drop, upper, target, acl.ACCESS)
    if before is not None:
        put_back = partial(_set, upper, target, acl.ACCESS, before)
    with _undone(put_back):
        write(upper, target, mode, was)


def _current(upper: Upper, target: int | bytes, node: Node) -> Override:
    """Return what *node* is kept as; not what it is shown as, which may say less."""
    value = override.read(target, _spelling(upper))
    if value is None:
        value = override.of(os.stat(proc_path(target) if isinstance(target, PathFd) else target))
    return value if value.kind else value._replace(kind=node.kind)


def _spelling(upper: Upper) -> Spelling:
    assert upper.override is not None
    return upper.override


def _get(upper: Upper, target: int | bytes, name: bytes) -> bytes | None:
    return xattr.get(target, upper.names.to_disk(name))


def _set(upper: Upper, target: int | bytes, name: bytes, value: bytes) -> None:
    xattr.set_(target, upper.names.to_disk(name), value)


def _drop(upper: Upper, target: int | bytes, name: bytes) -> None:
    try:
        xattr.remove(target, upper.names.to_disk(name))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise

"""Renaming, directories with lower parts included.

A directory that has lower parts takes them along by a redirect mark on its upper directory, which
says where in the layers below they are (overlayfs.rst, "redirect_dir"). Where a mark cannot be had
(``user.overlay.*`` under the kernel's rules, a path longer than an attribute holds) the whole tree
is copied up first and the directory becomes opaque: slower, and never EXDEV.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from unionfs.syscalls import xattr
from unionfs.syscalls.at import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    name_path,
    names_in,
    renameat2,
)
from unionfs.union.layer import Part
from unionfs.union.node import Node
from unionfs.upper import beside, index, whiteouts
from unionfs.upper.copyup import copy_up, ensure_dir, ensure_name, keep_times
from unionfs.upper.create import check_name
from unionfs.upper.data import own_data
from unionfs.upper.holding import held, is_needed, name_gone, nothing_to_tell, take_place
from unionfs.upper.identity import identify
from unionfs.upper.metadata import copy_flags, copy_to_fd
from unionfs.upper.remove import check_empty, dir_gone
from unionfs.upper.upper import Upper
from unionfs.upper.work import clear_away

_REDIRECT_MAX = 256  # OVL_REDIRECT_MAX: the kernel writes none longer, though it reads them


def rename(
    upper: Upper,
    old: Node,
    old_name: bytes,
    new: Node,
    new_name: bytes,
    flags: int = 0,
    *,
    done: Callable[[], None] = nothing_to_tell,
) -> None:
    """Rename *old_name* in *old* to *new_name* in *new*, with RENAME_NOREPLACE or _EXCHANGE.

    *done* is called when a file has its new name, before that is accounted for.

    Files must have been copied up before (``copyup.FileCopy``); directories are here. Raises
    OSError as rename(2); EXDEV only with ``redirect_dir=off``.
    """
    check_name(new_name)
    source = upper.tree.load(old)[old_name]
    target = upper.tree.lookup(new, new_name)
    if target is not None and flags & RENAME_NOREPLACE:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(new_name))
    if target is source:
        return  # two names of one file: rename(2) does nothing
    if flags & RENAME_EXCHANGE:
        _exchange(upper, old, old_name, new, new_name)
    else:
        _move(upper, source, target, (old, old_name), (new, new_name), done)


def _prepare(upper: Upper, node: Node, parent: Node, name: bytes, new: Node) -> Part:
    """Bring *node* into the upper, movable from *name* in *parent* to *new*; its parent's part."""
    copy_up(upper, node)
    if node.is_dir:
        above = ensure_dir(upper, parent)
        if not take_lower_parts(upper, node, same_parent=parent is new):
            make_pure(upper, node)
        return above
    return ensure_name(upper, node, parent, name)


def take_lower_parts(upper: Upper, node: Node, *, same_parent: bool) -> bool:
    """Mark the upper directory *node* so that it finds its lower parts, if any, from anywhere.

    With *same_parent* from any name in its parent. Returns False where no mark can say that: then
    all of it must be copied up (``make_pure``). Raises OSError.
    """
    if not node.lower_parts():
        return True
    part = upper.part(node)
    if part.redirect is not None and (same_parent or part.redirect.startswith(b"/")):
        return True
    if not upper.redirect_dir:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fsdecode(node.name))
    redirect = _lower_path(upper, node)
    if len(redirect) > _REDIRECT_MAX and same_parent:
        redirect = node.name  # a name alone is one in the same parent
    return len(redirect) <= _REDIRECT_MAX and _set_redirect(upper, part, redirect)


def _lower_path(upper: Upper, node: Node) -> bytes:
    """Return the path of the merged directory *node* in the union of the layers below the upper.

    Its place in the mount, but for those of it and its parents that were moved already, which say
    themselves where they come from (fs/overlayfs/dir.c, ovl_get_redirect()).
    """
    names: list[bytes] = []
    each = node
    while each.parent is not None:
        redirect = upper.part(each).redirect
        if redirect is not None and redirect.startswith(b"/"):
            return b"/".join((redirect, *reversed(names)))
        names.append(redirect or each.name)
        each = each.parent
    return b"/" + b"/".join(reversed(names))


def _set_redirect(upper: Upper, part: Part, redirect: bytes) -> bool:
    try:
        xattr.set_(part.fd(), upper.flavour.redirect, redirect)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EOPNOTSUPP):
            return False
        raise
    part.redirect = redirect
    return True


def make_pure(upper: Upper, node: Node) -> None:
    """Copy up everything below the directory *node* and cut it off from its lower parts.

    Interrupted, it leaves copies that show what was there before: each level is opaque only when
    all of it is in the upper. Blocks for as long as the copying takes, so whoever serves others has
    copied what there is before (``fuse.state.State.copy_up_tree``). Raises OSError.
    """
    pending = [(node, False)]
    while pending:
        each, done = pending.pop()
        if done:
            _make_opaque(upper, each)
            continue
        ensure_dir(upper, each)
        pending.append((each, True))
        for name, child in list(upper.tree.load(each).items()):
            if child.is_dir:
                pending.append((child, False))
            else:
                known = identify(upper.tree, upper, child, upper.tree.stat(child))
                if known is not child:
                    take_place(upper, each, name, known)
                copy_up(upper, known)
                own_data(upper, known)
                ensure_name(upper, known, each, name)


def _make_opaque(upper: Upper, node: Node) -> None:
    """Mark *node*, all of whose entries are in the upper, as opaque."""
    part = upper.part(node)
    if len(node.parts) > 1:
        if whiteouts.files_in(part):
            # They would show as files in an opaque directory, and what they hide before it is one.
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fsdecode(node.name))
        whiteouts.make_opaque(part)
        del node.parts[1:]
        node.attr = None


def _move(
    upper: Upper,
    source: Node,
    target: Node | None,
    place: tuple[Node, bytes],
    to: tuple[Node, bytes],
    done: Callable[[], None],
) -> None:
    """Rename *source*, at *place*, to a name that is free or is replaced: *target*'s."""
    (old, old_name), (new, new_name) = place, to
    if target is not None:
        check_types(upper, source, target)
    covered = upper.tree.lower_shows(old, old_name)
    from_part = _prepare(upper, source, old, old_name, new)
    to_part = ensure_dir(upper, new)
    if source.is_dir and len(source.parts) == 1 and upper.tree.lower_shows(new, new_name):
        whiteouts.make_opaque(upper.part(source))
    if target is not None:
        _make_way(upper, target, new, new_name)
    _note_impure(upper, source, to_part)
    if target is None:
        _rename_on_disk(upper, source, (from_part, old_name), (to_part, new_name), covered)
        done()
        _moved(upper, source, old, old_name, new, new_name)
        return
    with held(upper, target, needed=target.is_dir or is_needed(target, new, new_name)):
        _rename_on_disk(upper, source, (from_part, old_name), (to_part, new_name), covered)
    done()
    _moved(upper, source, old, old_name, new, new_name)
    if target.is_dir:
        dir_gone(upper, target)
    else:
        name_gone(upper, target, new, new_name)


def check_types(upper: Upper, source: Node, target: Node) -> None:
    """Raise what rename(2) says about replacing *target* by *source*."""
    if target.is_dir:
        if not source.is_dir:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        check_empty(upper, target)
    elif source.is_dir:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _make_way(upper: Upper, target: Node, new: Node, name: bytes) -> None:
    """Prepare the upper for *target*, which shows at *name*, to be replaced by a rename."""
    part = target.upper_part() if target.is_dir else None
    if part is not None and names_in(part.fd()):
        _swap_for_empty(upper, upper.part(new), name, part)
        part.drop()
        fresh = Part(upper.layer, upper.part(new), name, upper.tree.pool)
        target.parts = [fresh]
    if not target.is_dir and target.source is None:
        ensure_name(upper, target, new, name)
        index.pin_to_upper(upper, target)


def _swap_for_empty(upper: Upper, above: Part, name: bytes, part: Part) -> None:
    """Replace the upper directory *name*, which holds whiteouts only, by an empty opaque one.

    *part* is its part.
    What ovl_clear_empty() does: a rename can only replace a directory that is empty on disk. The
    empty one keeps the origin mark, and so its number, should nothing come of the rename.
    """
    work = upper.work
    temporary = work.temporary()
    old = name_path(above.fd(), name)
    st = upper.tree.stat_at(above, name)
    os.mkdir(temporary, 0o700, dir_fd=work.fd)
    try:
        fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=work.fd)
        try:
            xattr.set_(fd, upper.flavour.opaque, b"y")
            index.copy_origin(upper, old, fd)
            copy_to_fd(upper, old, upper.layer, fd, st)
            copy_flags(part.fd(), fd)
        finally:
            os.close(fd)
        before = os.fstat(above.fd())
        renameat2(work.fd, temporary, above.fd(), name, RENAME_EXCHANGE)
        keep_times(above.fd(), before)
    finally:
        clear_away(work.fd, temporary)


def _rename_on_disk(
    upper: Upper, source: Node, place: tuple[Part, bytes], to: tuple[Part, bytes], covered: bool
) -> None:
    """Rename in the upper, leaving a whiteout at *place* where a lower layer would show."""
    old_fd, new_fd = place[0].fd(), to[0].fd()
    if source.is_dir and _is_file(new_fd, to[1]):
        # A whiteout is in the way, and a directory replaces no file: change places with it.
        if to[0].whiteout_files:
            whiteouts.mark(place[0])
        moved = upper.part(source).fd()
        before = os.fstat(moved)
        renameat2(old_fd, place[1], new_fd, to[1], RENAME_EXCHANGE)
        keep_times(moved, before)  # XFS takes that for a change of the directory
        if not covered:
            clear_away(old_fd, place[1])
        return
    if not covered:
        os.rename(place[1], to[1], src_dir_fd=old_fd, dst_dir_fd=new_fd)
        return
    try:
        renameat2(old_fd, place[1], new_fd, to[1], RENAME_WHITEOUT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _rename_without_whiteout(upper, place, to)


def _rename_without_whiteout(
    upper: Upper, place: tuple[Part, bytes], to: tuple[Part, bytes]
) -> None:
    """Rename on a filesystem that has no RENAME_WHITEOUT; the kernel's overlayfs is one.

    Where the new name is free, a whiteout takes it first, and the two change places. Else the old
    name shows its lower file for a moment, which loses nothing.
    """
    old_fd, new_fd = place[0].fd(), to[0].fd()
    whiteouts.announce(upper, place[0])
    if upper.work.as_files and _whiteout_first(upper, *to):
        renameat2(old_fd, place[1], new_fd, to[1], RENAME_EXCHANGE)
        return
    work, temporary = upper.work.fd, upper.work.temporary()
    upper.work.whiteout(work, temporary)
    try:
        os.rename(place[1], to[1], src_dir_fd=old_fd, dst_dir_fd=new_fd)
        os.rename(temporary, place[1], src_dir_fd=work, dst_dir_fd=old_fd)
    except BaseException:
        clear_away(work, temporary)
        raise


def _whiteout_first(upper: Upper, above: Part, name: bytes) -> bool:
    """Have a whiteout at *name* in *above*, where nothing shows; False if none can be there.

    That is where something shows, and in an opaque directory, in which a file is no whiteout.
    """
    whiteouts.announce(upper, above)
    if not above.whiteout_files:
        return False
    before = os.fstat(above.fd())
    try:
        upper.work.whiteout(above.fd(), name)
    except FileExistsError:
        return whiteouts.is_at(above, name)
    keep_times(above.fd(), before)  # should nothing come of the rename
    return True


def _is_file(fd: int, name: bytes) -> bool:
    try:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return not stat.S_ISDIR(st.st_mode)


def _note_impure(upper: Upper, source: Node, to: Part) -> None:
    """A directory that is to hold a copy is marked impure, so that its number is looked up."""
    if to.impure or (source.unmarked and not source.is_dir):
        return
    target = upper.tree.target(source)
    if source.is_dir or beside.get(upper, target, upper.flavour.origin) is not None:
        xattr.set_(to.fd(), upper.flavour.impure, b"y")
        to.impure = True


def _moved(
    upper: Upper, node: Node, old: Node, old_name: bytes, new: Node, new_name: bytes
) -> None:
    """Account for *node*'s new place."""
    del upper.tree.load(old)[old_name]
    upper.tree.load(new)[new_name] = node
    _replace_place(upper, node, old, old_name, new, new_name)


def _replace_place(
    upper: Upper, node: Node, old: Node, old_name: bytes, new: Node, new_name: bytes
) -> None:
    node.gone_from(old, old_name)
    node.found_at(new, new_name)
    if node.is_dir:
        part = upper.part(node)
        part.parent = upper.part(new)
        part.name = new_name
    node.attr = None


def _exchange(upper: Upper, old: Node, old_name: bytes, new: Node, new_name: bytes) -> None:
    """Let two names change places."""
    first = upper.tree.load(old)[old_name]
    second = upper.tree.load(new).get(new_name)
    if second is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(new_name))
    one = _prepare(upper, first, old, old_name, new)
    two = _prepare(upper, second, new, new_name, old)
    for node, parent, name in ((first, new, new_name), (second, old, old_name)):
        if node.is_dir and len(node.parts) == 1 and upper.tree.lower_shows(parent, name):
            whiteouts.make_opaque(upper.part(node))
    _note_impure(upper, first, two)
    _note_impure(upper, second, one)
    renameat2(one.fd(), old_name, two.fd(), new_name, RENAME_EXCHANGE)
    upper.tree.load(old)[old_name] = second
    upper.tree.load(new)[new_name] = first
    _replace_place(upper, first, old, old_name, new, new_name)
    _replace_place(upper, second, new, new_name, old, old_name)

"""Hypothesis strategies: random stacks of layers and random sequences of operations on them.

Few names and shallow paths, so that operations meet what is there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from hypothesis import strategies as st

from tests.support import kernel
from tests.support.ops import Op
from tests.support.picks import NAMES, ODD_NAMES, Pick
from tests.support.stacks import (
    Device,
    Dir,
    Entry,
    Fifo,
    File,
    Layer,
    Link,
    Stack,
    Symlink,
    Whiteout,
)

FILE_MODES = (0o644, 0o600, 0o4755, 0o2755, 0o000, 0o444)
DIR_MODES = (0o755, 0o700, 0o777, 0o1777, 0o2775, 0o555)
SIZES = (0, 1, 100, 4096, 5000, 70_000)
OFFSETS = (0, 1, 10, 4095, 4096, 100_000)
XATTRS = ("user.one", "user.two", "trusted.t", "trusted.overlay.x", "user.overlay.y", "security.s")
TIMES = (0, 1_234_567_890_123_456_789, 4_000_000_000_999_999_999, -5_000_000_001)

_names = st.one_of(*[st.sampled_from(NAMES)] * 12, st.sampled_from(ODD_NAMES[:3]))


def _paths(*depths: int) -> st.SearchStrategy[bytes]:
    of_depth = {depth: st.tuples(*[_names] * depth).map(b"/".join) for depth in set(depths)}
    return st.one_of(*(of_depth[depth] for depth in depths))


_dir_paths = _paths(1, 1, 2, 2, 3)
_file_paths = _paths(1, 2, 2, 2, 3, 3)
_owners = st.sampled_from((0, 0, 0, 1000, 1001))
_values = st.sampled_from((b"", b"1", b"v" * 300))

_dirs = st.builds(
    Dir,
    _dir_paths,
    st.sampled_from(DIR_MODES),
    _owners,
    _owners,
    xattrs=st.sampled_from(((), (), (("user.one", b"dir"),))),
)
_opaque_dirs = st.builds(Dir, _dir_paths, opaque=st.just(True))
_files = st.builds(
    File,
    _file_paths,
    st.sampled_from((b"x", b"lower ", b"\0")),
    st.sampled_from(SIZES),
    st.sampled_from(FILE_MODES),
    _owners,
    _owners,
    xattrs=st.sampled_from(((), (), (("user.one", b"1"),), (("trusted.t", b"t"),))),
    hole=st.sampled_from((0, 0, 0, 200_000)),
)
_symlinks = st.builds(
    Symlink, _file_paths, st.sampled_from((b"a", b"../b", b"/nowhere", b"x" * 300))
)
_specials = st.one_of(st.builds(Fifo, _file_paths), st.builds(Device, _file_paths))
_whiteouts = st.builds(Whiteout, _file_paths, attribute=st.sampled_from((False, False, True)))
_links = st.builds(Link, _file_paths, _file_paths)


def _slots(strategies: Sequence[st.SearchStrategy], count: int) -> st.SearchStrategy[list]:
    """*count* times one of *strategies* or nothing: long by habit, and short when shrunk."""
    slot = st.one_of(st.none(), *strategies)
    return st.tuples(*[slot] * count).map(lambda all_: [one for one in all_ if one is not None])


def stacks(*, links: bool = False) -> st.SearchStrategy[Stack]:
    """Stacks of three to five layers; *links*: with hard links inside layers."""
    common = [_dirs, _dirs, _dirs, _files, _files, _files, _symlinks, _specials]
    if links:
        common += [_links] * 4
    upper = _slots([*common, *[_whiteouts] * 3, _opaque_dirs], 6)
    return st.tuples(
        _slots(common, 12), upper, upper, st.one_of(st.none(), upper), st.one_of(st.none(), upper)
    ).map(lambda layers: tidy([layer for layer in layers if layer is not None]))


def tidy(stack: Sequence[Layer]) -> Stack:
    """Leave out what cannot be made, and whiteouts in directories that merge with nothing.

    (The kernel lists such a whiteout and cannot stat it; a test of its own shows what we do.)
    """
    view: dict[bytes, str] = {b"": "dir"}
    result = []
    for layer in stack:
        own, kept = _own(layer, view)
        result.append(tuple(kept))
        _merge(view, own)
    return tuple(result)


def _parents(path: bytes) -> list[bytes]:
    """Return the directories above *path*, the root (empty) first."""
    parts = path.split(b"/")[:-1]
    return [b"/".join(parts[:count]) for count in range(len(parts) + 1)]


def _own(layer: Layer, view: dict[bytes, str]) -> tuple[dict[bytes, str], list[Entry]]:
    """Return what *layer* itself has (path to kind) and its entries that can be made."""
    own: dict[bytes, str] = {b"": "dir"}
    kept: list[Entry] = []
    for entry in layer:
        above = _parents(entry.path)
        if any(own.get(path, "dir") not in ("dir", "opaque") for path in above):
            continue
        if entry.path in own:
            continue
        if isinstance(entry, Whiteout):
            merges = view.get(above[-1]) == "dir"
            if not merges or any(own.get(path) == "opaque" for path in above):
                continue
            kind = "whiteout"
        elif isinstance(entry, Dir):
            kind = "opaque" if entry.opaque else "dir"
        elif isinstance(entry, Link) and own.get(entry.target) != "file":
            continue
        else:
            kind = "file"
        for path in above:
            own.setdefault(path, "dir")
        own[entry.path] = kind
        kept.append(entry)
    return own, kept


def _merge(view: dict[bytes, str], own: dict[bytes, str]) -> None:
    """Put a layer over *view*."""
    for path in sorted(own, key=lambda path: path.count(b"/")):
        kind = own[path]
        if kind == "dir" and view.get(path) == "dir":
            continue
        for below in [one for one in view if one.startswith(path + b"/")]:
            del view[below]
        view[path] = "dir" if kind == "opaque" else kind
        if kind == "whiteout":
            del view[path]


# --- operations ----------------------------------------------------------------------------------

_users = st.sampled_from((0, 0, 0, 0, 0, 0, 1000))
_handles = st.integers(0, 1)
_file_modes = st.sampled_from((0o644, 0o600, 0o666, 0o4755, 0o000))
_write_flags = st.sampled_from(
    (
        0,
        os.O_CREAT,
        os.O_CREAT,
        os.O_CREAT | os.O_EXCL,
        os.O_TRUNC,
        os.O_CREAT | os.O_TRUNC,
        os.O_APPEND,
    )
)
_open_flags = st.sampled_from(
    (
        os.O_RDONLY,
        os.O_RDONLY,
        os.O_RDWR,
        os.O_RDWR,
        os.O_RDWR | os.O_CREAT,
        os.O_RDWR | os.O_TRUNC,
        os.O_WRONLY | os.O_APPEND,
        os.O_RDONLY | os.O_DIRECTORY,
    )
)
_times = st.sampled_from((*TIMES, kernel.UTIME_NOW, kernel.UTIME_OMIT))
_fills = st.integers(0, 255)
_rename_flags = st.sampled_from((0, 0, 0, 0, 0, kernel.RENAME_NOREPLACE, kernel.RENAME_EXCHANGE))
_xattr_names = st.sampled_from(XATTRS)
_xattr_flags = st.sampled_from((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))
_ids = st.sampled_from((-1, 0, 1000, 1001, 2000))
_chmod_modes = st.sampled_from((*FILE_MODES, *DIR_MODES))
_special_modes = st.sampled_from(
    (stat.S_IFIFO | 0o644, stat.S_IFREG | 0o640, stat.S_IFSOCK | 0o600, stat.S_IFCHR | 0o600)
)


def _pick(**weights: int) -> st.SearchStrategy[Pick]:
    kinds = [kind for kind, weight in weights.items() for _ in range(weight)]
    return st.builds(Pick, st.sampled_from(kinds), st.integers(0, 99))


_file = _pick(file=12, any=2, fresh=1)
_dir = _pick(dir=12, any=2, fresh=1)
_any = _pick(any=12, fresh=1, below=1)
_any_or_root = st.one_of(*[_any] * 9, st.just(b"."))
_not_dir = _pick(file=6, other=3, any=3, fresh=1)
_new = _pick(fresh=12, any=2, below=1)
_new_or_there = _pick(fresh=6, any=4, dir=1, file=1)


def _op(name: str, *arguments: st.SearchStrategy) -> st.SearchStrategy[Op]:
    return st.builds(lambda args, uid: Op(name, args, uid), st.tuples(*arguments), _users)


def _special(name: str) -> st.SearchStrategy[Op]:
    return st.just(Op(name, ()))


# Of chown(-1, -1) the kernel's FUSE leaves only "drop set-id bits", as before a write, which is
# everybody's right: that others than the owner get EPERM if the file has such bits is lost there.
def _who_may(chown: st.SearchStrategy[Op]) -> st.SearchStrategy[Op]:
    return chown.filter(lambda op: op.uid == 0 or op.args[1:] != (-1, -1))


_sizes, _offsets = st.sampled_from(SIZES), st.sampled_from(OFFSETS)
Weighted = tuple[tuple[int, st.SearchStrategy[Op]], ...]

_NAMES_OPS: Weighted = (
    (3, _op("mkdir", _new, st.sampled_from(DIR_MODES))),
    (3, _op("rmdir", _dir)),
    (1, _op("mknod", _new, _special_modes, st.just(os.makedev(1, 5)))),
    (1, _op("symlink", _new, st.sampled_from((b"a", b"../c", b"/nowhere")))),
    (3, _op("unlink", _not_dir)),
    (9, _op("rename", _dir, _new_or_there, _rename_flags)),
    (5, _op("rename", _any, _new_or_there, _rename_flags)),
    (3, _op("rmtree", _dir)),
    (3, _op("write", _new, _write_flags, _offsets, _fills, _sizes, _file_modes)),
    (3, _op("listdir", _dir)),
)
# Not over generations: of a lower file with several names the kernel copies the name that was used
# into the upper, FUSE does not say which that was, and a new work directory has no index.
_LINK: Weighted = ((3, _op("link", _not_dir, _new)),)
_ATTRIBUTE_OPS: Weighted = (
    (2, _op("chmod", _any_or_root, _chmod_modes)),
    (2, _who_may(_op("chown", _any_or_root, _ids, _ids))),
    (2, _op("utime", _any_or_root, _times, _times)),
    (2, _op("setxattr", _any_or_root, _xattr_names, _values, _xattr_flags)),
    (1, _op("removexattr", _any_or_root, _xattr_names)),
    (1, _op("getxattr", _any_or_root, _xattr_names)),
    (1, _op("listxattr", _any_or_root)),
    (2, _op("stat", _any_or_root)),
    (1, _op("access", _any_or_root, st.sampled_from((os.R_OK, os.W_OK, os.X_OK)))),
    (1, _op("readlink", _not_dir)),
)
_DATA_OPS: Weighted = (
    (3, _op("write", _file, _write_flags, _offsets, _fills, _sizes, _file_modes)),
    (2, _op("truncate", _file, _sizes)),
    (3, _op("read", _file)),
    (1, _op("copy", _file, _new_or_there)),
    (6, _op("open", _handles, _file, _open_flags, _file_modes)),
    (1, _op("open", _handles, _dir, _open_flags, _file_modes)),
    (1, _op("close", _handles)),
    (2, _op("hread", _handles)),
    (2, _op("hwrite", _handles, _offsets, _fills, _sizes)),
    (2, _op("hstat", _handles)),
    (1, _op("htruncate", _handles, _sizes)),
    (1, _op("hsync", _handles)),
    (1, _op("hchmod", _handles, _file_modes)),
    (1, _who_may(_op("hchown", _handles, _ids, _ids))),
    (1, _op("hutime", _handles, st.sampled_from(TIMES))),
    (1, _op("hsetxattr", _handles, _xattr_names, _values)),
    (1, _op("hgetxattr", _handles, _xattr_names)),
    (1, _op("hlistdir", _handles)),
)
_SPECIALS: Weighted = (
    (1, _special("compare")),
    (1, _special("remount")),
    (1, _special("swap")),
)
_GENERATION: Weighted = ((2, _special("generation")),)
_FORGET: Weighted = ((10, _special("forget")),)


def operations(about: str, *, length: int) -> st.SearchStrategy[list[Op]]:
    """Sequences of up to *length* operations about "everything", "names" and others.

    With "generations" the upper becomes a lower now and then; with "swaps" the drivers often change
    places; with "forgetting" the kernel often forgets what nobody uses.
    """
    weighted = {
        "everything": (*_NAMES_OPS, *_LINK, *_ATTRIBUTE_OPS, *_DATA_OPS, *_SPECIALS),
        "names": (*_NAMES_OPS, *_LINK, *_SPECIALS),
        "generations": (*_NAMES_OPS, *_ATTRIBUTE_OPS, *_SPECIALS, *_GENERATION),
        "forgetting": (*_NAMES_OPS, *_LINK, *_ATTRIBUTE_OPS, *_DATA_OPS, *_SPECIALS, *_FORGET),
        "swaps": (*_NAMES_OPS, *_LINK, *_ATTRIBUTE_OPS, *_DATA_OPS, *[(4, _special("swap"))]),
    }[about]
    return _slots([strategy for weight, strategy in weighted for _ in range(weight)], length)

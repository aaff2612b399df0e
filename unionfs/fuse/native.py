"""The optional C extension's Python face: what is to be had of it in this process.

``_native`` must be in the process's global symbols before pyfuse3 is loaded, so this module is the
first import of everything here that needs pyfuse3. Where the extension was not built (no compiler,
libfuse older than 3.13), ``hooks`` is None, and everything works with one request more here and
there; the environment variable ``UNIONFS_PURE=1`` does the same, for tests of that case.
"""

from __future__ import annotations

import importlib
import os
import sys

from unionfs.fuse.hooks import Hooks

VERSION = 37  # of the interface; an extension that was built from other sources is not used

NAME_ONLY = 2  # the generation that marks an entry of a listing as one without attributes
LOWER = 1 << 32  # plus a layer's number: the generation of an entry that is as that layer has it
CARRIER = b"unionfs.carried"  # the attribute that GETXATTR asks for when it stands for another


def _load() -> Hooks | None:
    if os.environ.get("UNIONFS_PURE") == "1" or "pyfuse3" in sys.modules:
        return None
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
    try:
        module: Hooks = importlib.import_module("unionfs.fuse._native")
    except ImportError:
        return None
    finally:
        sys.setdlopenflags(flags)
    if getattr(module, "VERSION", 0) != VERSION:
        return None
    module.enable()
    return module


def _never() -> bool:
    return False


def _nothing() -> None:
    return None


def _nobody() -> tuple[int, int, int]:
    return 0, 0, 0


def _no_flags() -> int:
    return 0


hooks: Hooks | None = _load()
kills_privileges = hooks.kills_privileges if hooks is not None else _never
mapped = hooks.mapped if hooks is not None else _never
caller = hooks.caller if hooks is not None else _nobody
asks_tmpfile = hooks.asks_tmpfile if hooks is not None else _never
touches = hooks.touches if hooks is not None else _never
carried = hooks.carried if hooks is not None else _nothing
forget_attributes = hooks.forget_attributes if hooks is not None else _nothing
unshare_dirs = hooks.unshare_dirs if hooks is not None else _nothing
xattr_flags = hooks.xattr_flags if hooks is not None else _no_flags


def unshare_dir(node: int) -> None:
    """Answer GETATTR of the directory *node*, which is removed, no more by fstat."""
    if hooks is not None:
        hooks.share_dir(node, -1, False)


def lent_wanted() -> None:
    """Note that a file was looked up that had been listed by its name only."""
    if hooks is not None:
        hooks.lent_wanted()


def hooked() -> bool:
    """Return whether the session of this process is hooked."""
    return hooks is not None and hooks.descriptor() >= 0

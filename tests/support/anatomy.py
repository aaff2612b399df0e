"""An image whose right answers are written down: for everything that looks into the stack.

Bottommost first:

1. ``ADD rootfs``: /bin, /etc/motd (8 bytes), /etc/passwd, /usr/share/doc (2 files), /opt/tool
2. ``COPY app``: /app/data (1000 bytes), /app/run, a link /app/conf -> ../etc, /ETC (in upper case)
3. ``RUN rm …``: /usr/share/doc and /app/data deleted, /etc/motd changed, /opt opaque with /opt/new
4. ``COPY last``: /etc/motd with the content of layer 1 again, /bin a file's mode, /app/data anew
"""

from __future__ import annotations

from pathlib import Path

from tests.support.stores import add_image
from tests.support.tars import dir_, file, opaque, symlink, tar, whiteout
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store

COMMANDS = ("ADD rootfs /", "COPY app /app", "RUN rm -rf /usr/share/doc /app/data", "COPY last /")
# What Docker (1, 2), BuildKit (3, 4) and a step without a layer write down.
HISTORY = (
    {"created_by": "/bin/sh -c #(nop) ADD rootfs / "},
    {"created_by": "/bin/sh -c #(nop)  COPY app /app"},
    {"created_by": "ENV A=b", "empty_layer": True},
    {"created_by": "RUN /bin/sh -c rm -rf /usr/share/doc /app/data # buildkit"},
    {"created_by": "COPY last / # buildkit"},
)
BASE = tar(
    dir_("./", mode=0o755),
    dir_("bin/", mode=0o755),
    file("bin/sh", b"#!shell\n", mode=0o755, mtime=1_000_000_000),
    dir_("etc/", mode=0o755),
    file("etc/motd", b"welcome\n", mtime=1_000_000_000),
    file("etc/passwd", b"root:x:0:0\n"),
    dir_("usr/", mode=0o755),
    dir_("usr/share/", mode=0o755),
    dir_("usr/share/doc/", mode=0o755),
    file("usr/share/doc/a", b"a" * 100),
    file("usr/share/doc/b", b"b" * 200),
    dir_("opt/", mode=0o755),
    file("opt/tool", b"t" * 50),
)
APP = tar(
    dir_("./", mode=0o755),
    dir_("app/", mode=0o755),
    file("app/data", b"d" * 1000, uid=1000, gid=1001, mode=0o640, mtime=1_100_000_000),
    file("app/run", b"run\n", mode=0o755),
    symlink("app/conf", "../etc"),
    dir_("ETC/", mode=0o755),
)
REMOVED = tar(
    dir_("./", mode=0o755),
    dir_("usr/", mode=0o755),
    dir_("usr/share/", mode=0o755),
    whiteout("usr/share/doc"),
    dir_("app/", mode=0o755),
    whiteout("app/data"),
    dir_("etc/", mode=0o755),
    file("etc/motd", b"changed\n", mtime=1_200_000_000),
    dir_("opt/", mode=0o755),
    opaque("opt"),
    file("opt/new", b"n" * 10),
)
LAST = tar(
    dir_("./", mode=0o755),
    dir_("etc/", mode=0o755),
    file("etc/motd", b"welcome\n", mtime=1_300_000_000),
    dir_("app/", mode=0o755),
    file("app/data", b"new", mtime=1_300_000_000),
    dir_("bin/", mode=0o755),
    file("bin/sh", b"#!shell\n", mode=0o700, mtime=1_000_000_000),
)
LAYERS = (BASE, APP, REMOVED, LAST)


def make_store(root: Path) -> ImageRecord:
    """Make a store at *root* with the image ``anatomy``."""
    with Store.open(str(root), create=True) as store:
        return add_image(store, *LAYERS, names=["anatomy"], history=list(HISTORY))

"""A mount of a few lines in the driver's place, for tests of the daemon's life.

Run as a program it starts one and prints what became of it, because a daemon must be forked from a
process without trio's threads, which pytest's may have:
``fake_session.py MODE TARGET LOG [nonempty] [foreground]``. The mode says how the session behaves.
"""

import errno
import json
import os
import signal
import stat
import subprocess
import sys

CONTENT = b"hello from the mount\n"
_FILE = 2


def start(mode, target, log="", *flags, **kwargs):
    """Start a fake mount from another process; return {"pid": …} or {"error": …, "told": …}."""
    words = [sys.executable, "-m", "tests.support.fake_session", mode, str(target), str(log)]
    done = subprocess.run([*words, *flags], stdout=subprocess.PIPE, timeout=60, **kwargs)
    return json.loads(done.stdout)


def popen(mode, target, log="", *flags, **kwargs):
    """As ``start``, without waiting for it."""
    words = [sys.executable, "-m", "tests.support.fake_session", mode, str(target), str(log)]
    return subprocess.Popen([*words, *flags], **kwargs)


class FakeSession:
    """One directory with one file, and failures on request."""

    def __init__(self, mode, config, target):
        if mode == "refuse":
            from unionfs.errors import RefusedError

            raise RefusedError(f"lower layers {config.lowerdirs} are refused")
        if mode == "oserror":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", b"/no/lower")
        if mode == "bug":
            raise ValueError("a bug")
        self.mode, self.config, self.target, self.mounted = mode, config, target, False

    def mount(self):
        import pyfuse3

        if self.mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "mount-fails":
            from unionfs.errors import UnavailableError

            os.write(2, b"fusermount3: mount failed:\n Operation not permitted\n")
            raise UnavailableError("cannot mount")
        options = {"fsname=fake", "subtype=unionfs", "default_permissions"}
        pyfuse3.init(_operations(), os.fsdecode(self.target), options)
        self.mounted = True
        if self.mode == "slow":
            import time

            time.sleep(3)
        if self.mode == "die-mounted":
            os.kill(os.getpid(), signal.SIGKILL)

    async def serve(self):
        import pyfuse3
        import trio

        if self.mode == "boom":
            with trio.move_on_after(1.0):
                await pyfuse3.main()
            raise KeyError("something unforeseen")
        await pyfuse3.main()

    def terminate(self):
        import pyfuse3

        if self.mode != "deaf":
            pyfuse3.terminate()

    def close(self):
        import pyfuse3

        if self.mounted:
            pyfuse3.close(unmount=True)


def _operations():
    import pyfuse3

    class Operations(pyfuse3.Operations):
        async def getattr(self, inode, ctx=None):
            entry = pyfuse3.EntryAttributes()
            entry.st_ino = inode
            root = inode == pyfuse3.ROOT_INODE
            entry.st_mode = stat.S_IFDIR | 0o755 if root else stat.S_IFREG | 0o644
            entry.st_size = 0 if root else len(CONTENT)
            entry.st_nlink = 1
            return entry

        async def lookup(self, parent, name, ctx=None):
            if name != b"file":
                raise pyfuse3.FUSEError(errno.ENOENT)
            return await self.getattr(_FILE)

        async def statfs(self, ctx):
            return pyfuse3.StatvfsData()

        async def opendir(self, inode, ctx):
            return inode

        async def readdir(self, fh, start_id, token):
            if start_id == 0:
                pyfuse3.readdir_reply(token, b"file", await self.getattr(_FILE), 1)

        async def open(self, inode, flags, ctx):
            return pyfuse3.FileInfo(fh=inode)

        async def read(self, fh, off, size):
            return CONTENT[off : off + size]

    return Operations()


def _main(mode, target, log, *flags):
    from functools import partial

    from unionfs.daemon import spawn
    from unionfs.errors import UnionfsError
    from unionfs.options import MountConfig

    assert not {"trio", "pyfuse3"} & sys.modules.keys()
    config = MountConfig((b"/l", b"relative/../l"))
    options = {"allow_nonempty": "nonempty" in flags, "factory": partial(FakeSession, mode)}
    try:
        if "foreground" in flags:
            spawn.run_foreground(config, os.fsencode(target), debug=True, **options)
            return {}
        place = os.fsencode(log) or None
        return {"pid": spawn.start(config, os.fsencode(target), log=place, **options)}
    except (UnionfsError, OSError) as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"error": kinds, "told": str(error)}


if __name__ == "__main__":
    result = _main(*sys.argv[1:])
    assert not {"trio", "pyfuse3"} & sys.modules.keys() or "foreground" in sys.argv
    print(json.dumps(result), flush=True)

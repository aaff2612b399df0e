"""``unionfs serve``: the resident spawner, which makes mounts quick to start."""

from __future__ import annotations

from functools import partial

from unionfs.cli.context import Context
from unionfs.cli.tree import Branch
from unionfs.errors import UsageError

_WHAT = """\
Stay in the foreground, with everything imported, and do the mounts that other calls of unionfs by
the same user ask for: in helper form, and unionfs mount. They find it by its socket, and do without
it where it does not answer. The mounts go on when it ends (SIGTERM, Ctrl-C). systemd may pass the
socket (LISTEN_FDS).
"""


def register(commands: Branch) -> None:
    """Add the command of this module."""
    serve = commands.command("serve", _serve, "be the resident spawner, for quicker mounts")
    serve.description = _WHAT
    serve.add_argument("--socket", metavar="PATH", help="default: $UNIONFS_SERVE, or this user's")


def _serve(context: Context) -> int:
    from unionfs.cli.main import is_mount, main
    from unionfs.daemon import resident, spawner

    path = context.args.socket or resident.socket_path()
    if path is None:
        raise UsageError("serve needs --socket PATH: XDG_RUNTIME_DIR is not set")
    _prepare()
    serving = spawner.Spawner(partial(main, ask_resident=False), is_mount)
    with spawner.listening(path) as listener:
        serving.run(listener)
    return 0


def _prepare() -> None:
    """Import and make what mounts use, once for all of them; the FUSE room brings pyfuse3."""
    import logging.handlers  # noqa: F401 - for the daemons of containers

    import unionfs.cli.helper
    import unionfs.container.mount
    import unionfs.daemon.control
    import unionfs.daemon.spawn
    import unionfs.fuse.session
    import unionfs.store.store  # noqa: F401
    from unionfs.cli import commands

    commands.build()

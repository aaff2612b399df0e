"""Mounting and unmounting: mount, umount.

Imports little: with ``mount`` the time until the daemon is forked is import time.
"""

from __future__ import annotations

import argparse
import errno
import os
from typing import TYPE_CHECKING

from unionfs.cli import output
from unionfs.cli.context import Context, find_container
from unionfs.cli.option_help import EXPLAINED
from unionfs.cli.tree import Branch
from unionfs.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from unionfs.container.mount import Plan, Wish

_IMAGE_HINT = "unionfs create {}, or unionfs mount --image {} TARGET"


def register(commands: Branch) -> None:
    """Add the commands of this module."""
    mount = commands.command("mount", _mount, "mount a container and print the mount point")
    mount.add_argument("words", metavar="CONTAINER [TARGET]", nargs="*")
    mount.add_argument("--image", help="mount this image read-only, with no container")
    mount.add_argument("--read-only", action="store_true", help="allow no changes")
    mount.add_argument("--foreground", action="store_true", help="serve the mount in this process")
    mount.add_argument(
        "-o",
        metavar="OPTS",
        dest="options",
        action="append",
        default=[],
        help="mount options, separated by commas",
    )
    mount.epilog = f"mount options:\n{EXPLAINED}"
    mount.formatter_class = argparse.RawDescriptionHelpFormatter
    mount.usage = (
        "unionfs mount [OPTION…] CONTAINER [TARGET]\n       unionfs mount --image IMAGE TARGET"
    )
    umount = commands.command("umount", _umount, "unmount a container or a mount point")
    umount.add_argument("subject", metavar="CONTAINER-or-TARGET")


def _mount(context: Context) -> int:
    from unionfs.container.mount import Wish

    args = context.args
    wish = Wish(options=args.options, read_only=args.read_only)
    if args.image is not None:
        return _mount_image(context, wish)
    if not 1 <= len(args.words) <= 2:
        raise UsageError("mount takes CONTAINER [TARGET], or --image IMAGE TARGET")
    return _mount_container(context, wish)


def _mount_image(context: Context, wish: Wish) -> int:
    from unionfs.container.mount import plan_image

    args = context.args
    if len(args.words) != 1:
        raise UsageError("mount --image IMAGE takes one TARGET")
    with context.store() as store:
        image = store.images.resolve(args.image)
        plan = plan_image(store, image, os.fsencode(args.words[0]), wish)
    if args.foreground:
        return _serve(context, plan)
    plan.start()
    _tell(context, plan.target)
    return 0


def _mount_container(context: Context, wish: Wish) -> int:
    from unionfs.container.locks import mount_lock
    from unionfs.container.mount import mount_container, plan_container

    name, target = context.args.words[0], None
    if len(context.args.words) == 2:
        target = os.fsencode(context.args.words[1])
    with context.store() as store:
        container = find_container(store, name, _IMAGE_HINT)
        if not context.args.foreground:
            _tell(context, mount_container(store, container, target, wish))
            return 0
        with mount_lock(store, container):
            plan = plan_container(store, container, target, wish)
    return _serve(context, plan)


def _serve(context: Context, plan: Plan) -> int:
    """Serve *plan* until it ends. The lock is not held: whoever unmounts takes it."""
    _tell(context, plan.target)
    plan.serve(debug=context.verbose > 0)
    return 0


def _tell(context: Context, target: bytes) -> None:
    if context.json:
        output.print_json({"target": output.text_of(target)})
    else:
        output.print_path(target)


def _umount(context: Context) -> int:
    subject: str = context.args.subject
    targets = _umounted(context, subject)
    if context.json:
        output.print_json([output.text_of(target) for target in targets])
    return 0


def _umounted(context: Context, subject: str) -> list[bytes]:
    """Unmount *subject*, a path if it has a slash, else a container before a path here."""
    from unionfs.container.umount import umount_container, umount_target
    from unionfs.daemon import client
    from unionfs.store.layout import Layout

    if not subject:
        raise UsageError("umount takes a container or a mount point")
    target, is_path = client.resolve(os.fsencode(subject)), _is_there(subject)
    os.chdir("/")  # where this process stands must not be what is in the way
    if "/" not in subject and context.has_store():
        with context.store() as store:
            try:
                return umount_container(store, store.containers.resolve(subject))
            except NotFoundError:
                if not is_path:
                    raise
    return umount_target(Layout(context.root), target)


def _is_there(path: str) -> bool:
    """Return whether *path* is a name here; the mount point of a daemon that died is one."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return True

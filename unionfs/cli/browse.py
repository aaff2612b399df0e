"""``unionfs browse``: an image or a container in a terminal, layer by layer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from unionfs.cli.context import Context
from unionfs.cli.tree import Branch
from unionfs.errors import NotFoundError, UnionfsError, UsageError

if TYPE_CHECKING:
    from unionfs.cli.browser.app import Subject
    from unionfs.store.records import ImageRecord
    from unionfs.store.store import Store


class NoTerminalError(UnionfsError):
    """A terminal is needed."""


def register(commands: Branch) -> None:
    """Add the command of this module."""
    parser = commands.command("browse", _browse, "explore an image or a container in the terminal")
    parser.add_argument("subject", metavar="CONTAINER|IMAGE|TARGET")


def _browse(context: Context) -> int:
    if context.json:
        raise UsageError("browse is for people; explain and image tree have --json")
    subject = find_subject(context)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NoTerminalError("browse needs a terminal; explain and image tree need none")
    from unionfs.cli.browser.app import Browser

    Browser(subject).run()
    return 0


def find_subject(context: Context) -> Subject:
    """Return what the words of *context* ask to explore. Raises NotFoundError, AmbiguousError."""
    from unionfs.cli.browser.app import Subject
    from unionfs.container.layers import whole_image
    from unionfs.container.subject import find_source

    name = context.args.subject
    if not context.has_store():
        return Subject(find_source(None, name))
    with context.store() as store:
        source = find_source(store, name)
        image = _image_of(store, name)
        whole = None if image is None else whole_image(store, image)
    return Subject(source) if whole is None else Subject(source, *whole)


def _image_of(store: Store, name: str) -> ImageRecord | None:
    """Return the image that *name* is or that the container *name* was made of."""
    try:
        return store.images.get(store.containers.resolve(name).image_id)
    except NotFoundError:
        pass
    try:
        return store.images.resolve(name)
    except NotFoundError:
        return None  # a mount point

"""Names: what an image may be called, what a container may be called, and names to give.

Image names follow the reference grammar that registries and engines share (distribution's
``reference`` package): ``[host[:port]/]path[:tag]``, lower case. Container names follow Docker's
rule. Both are also file names and words on a command line somewhere, so anything else is refused.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from unionfs.errors import UsageError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
)
_REPOSITORY = re.compile(rf"(?:{_HOST}(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_LONGEST_REPOSITORY = 255
DEFAULT_TAG = "latest"

_ADJECTIVES = (
    "amber airy bold brave brisk calm clear clever cosy crisp deft eager early fair fleet fond "
    "frank fresh gentle glad golden grand green happy hardy humble jolly keen kind light lively "
    "loyal lucid lucky mellow merry mild modest neat nimble noble patient placid plain proud quick "
    "quiet rapid ready serene sharp silent smart snug sober sound spry steady sunny swift tidy "
    "upbeat vivid warm wise witty young zesty"
)
_NOUNS = (
    "acorn alder apple aspen badger basil beech birch bison brook canyon cedar cherry cliff clover "
    "comet coral crane creek dahlia delta dune elm falcon fern finch fjord forest fox garden glade "
    "grove harbor hazel heron hill iris island ivy juniper lake lark laurel lemon lilac linden "
    "lotus lynx maple marsh meadow mesa moss oak olive orchid otter owl pebble pine plum pond "
    "poplar quartz raven reef ridge river robin sage sparrow spruce stone thistle tulip valley "
    "violet walnut willow wren"
)


class BadNameError(UsageError):
    """Something is not a name that an image or a container can have."""


def image_name(text: str) -> str:
    """Return *text* as a full name with a tag (``debian`` is ``debian:latest``).

    Raises BadNameError.
    """
    repository, tag = _split(text)
    if len(repository) > _LONGEST_REPOSITORY or not _REPOSITORY.fullmatch(repository):
        raise BadNameError(f"not a name for an image: {text!r} (lower-case words, like debian:12)")
    if not _TAG.fullmatch(tag):
        raise BadNameError(f"not a tag for an image: {tag!r} in {text!r}")
    return f"{repository}:{tag}"


def name_meant(text: str, names: Iterable[str]) -> str | None:
    """Return which of an image's *names* is *text*, its registry or ``:latest`` left out maybe.

    None if *text* is not a name of it, but its ID, say.
    """
    try:
        full = image_name(text)
    except BadNameError:
        return None
    return next((name for name in names if name == full or name.endswith(f"/{full}")), None)


def container_name(text: str) -> str:
    """Return *text* if a container can have that name. Raises BadNameError."""
    if not _CONTAINER.fullmatch(text):
        raise BadNameError(
            f"not a name for a container: {text!r} (letters, digits, _, - and ., no . in front)"
        )
    return text


def random_container_name() -> str:
    """Return a name that is easy to remember; it may be taken already."""
    return f"{secrets.choice(_ADJECTIVES.split())}_{secrets.choice(_NOUNS.split())}"


def _split(text: str) -> tuple[str, str]:
    """Split a name at its tag; a colon before the last slash belongs to a port."""
    head, slash, last = text.rpartition("/")
    path, colon, tag = last.partition(":")
    return head + slash + path, tag if colon else DEFAULT_TAG

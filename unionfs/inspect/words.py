"""What ``explain`` found, in sentences; for ``cli`` and for the attribute ``.why``."""

from __future__ import annotations

import stat

from unionfs.inspect.copies import Blame, Copy
from unionfs.inspect.explain import Explanation, Outcome, Plan, Verdict, Write
from unionfs.inspect.stack import LayerName
from unionfs.inspect.text import clock, counted, plain, shown, size
from unionfs.union.reasons import How, Says

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_COMMAND_WIDTH = 60
_SAME = {True: "same content", False: "other content", None: "content not compared"}


def kind_word(kind: int) -> str:
    """Return the word for an ``S_IF*`` value."""
    return _KINDS.get(kind, "unknown")


def command(text: str, width: int = _COMMAND_WIDTH) -> str:
    """Return a command of an image's history for a line, cut to *width* letters."""
    line = shown(text)
    return line if len(line) <= width else line[: width - 1] + "…"


def layer(name: LayerName) -> str:
    """Return a layer with the command that made it, if that is known."""
    return name.label if name.command is None else f"{name.label}, `{command(name.command)}`"


def verdict(one: Verdict) -> str:
    """Return what one layer says about a name, without what hides it."""
    if one.elsewhere is not None:
        return f"directory, at {plain(one.elsewhere)} in this layer{_marks(one)}"
    if one.says is Says.HAS:
        what = kind_word(one.kind)
        return (what if one.size is None else f"{what}, {size(one.size)}") + _marks(one)
    return {
        Says.ABSENT: "absent",
        Says.WHITEOUT: "whiteout: deletes it",
        Says.NO_DIRECTORY: "absent, like its directory",
    }[one.says]


def _marks(one: Verdict) -> str:
    words = ", opaque" if one.opaque else ""
    if one.redirect is not None:
        words += f", redirect: what is below comes from {plain(one.redirect)}"
    return words


def hidden(blame: Blame) -> str:
    """Return by what something is hidden."""
    where = plain(blame.path)
    return {
        How.WHITEOUT: f"deleted by {blame.layer.label} (whiteout {where})",
        How.OPAQUE: f"hidden by {blame.layer.label} (opaque directory {where})",
        How.COVERED: f"hidden by {blame.layer.label} ({where})",
        How.REDIRECTED: f"hidden by {blame.layer.label} (redirect of {where})",
    }[blame.how]


def answer(found: Explanation) -> str:
    """Return in a sentence what there is at the path, or why there is nothing."""
    if found.outcome is Outcome.FOUND:
        return _presence(found)
    missing = plain(found.missing or b"/")
    if found.outcome is Outcome.NOT_A_DIRECTORY:
        return f"{missing} is no directory, so nothing is below it"
    if found.outcome is Outcome.LINK_LOOP:
        return f"too many symbolic links: the last was {missing}"
    if found.blame is None:
        return f"{missing} is in no layer"
    return _absence(found.outcome, missing, found.blame)


def _absence(outcome: Outcome, missing: str, blame: Blame) -> str:
    by = layer(blame.layer)
    if blame.how is How.WHITEOUT:
        # A whiteout for which no copy was found: the directory below it went, or never was there.
        more = "" if outcome is Outcome.HIDDEN else "; no layer below has it"
        return f"{missing} is deleted by {by}{more}"
    at = plain(blame.path)
    if blame.how is How.OPAQUE:
        return f"{missing} is hidden: {at} is an opaque directory in {by}"
    if blame.how is How.REDIRECTED:
        return f"{missing} is hidden: {at} in {by} leads to another directory below"
    return f"{missing} is hidden by {at} in {by}"


def _presence(found: Explanation) -> str:
    counts = [copy for copy in found.copies if copy.counts]
    others = [copy for copy in found.copies if not copy.counts]
    shown_copy = found.shown
    if shown_copy is None or not counts:
        return "there"
    if shown_copy.kind == stat.S_IFDIR and len(counts) > 1:
        return f"merged from {_labels(counts)}"
    if shown_copy.layer != counts[0].layer:
        return f"from {shown_copy.layer.label}: copied up under another of its names"
    where = f"from {layer(shown_copy.layer)}"
    return f"{where}; hides {_labels(others)}" if others else where


def _labels(copies: list[Copy]) -> str:
    labels = [copy.layer.label for copy in copies]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def copy(one: Copy) -> str:
    """Return what one copy is: kind, size, mode, owner, time."""
    what = kind_word(one.kind)
    if one.kind == stat.S_IFREG:
        what += f", {size(one.size)}"
    if one.target is not None:
        what += f" to {plain(one.target)}"
    return f"{what}, mode {one.mode:04o}, owner {one.uid}:{one.gid}, {clock(one.mtime_ns)}"


def sameness(one: Copy) -> str:
    """Return whether a copy has the content of the one that shows."""
    return _SAME[one.same]


def write(plan: Plan) -> str:
    """Return what opening for writing would do now."""
    directories = counted(plan.directories, "directory", "directories")
    above = f", after copying up {directories}" if plan.directories else ""
    return {
        Write.IN_PLACE: "changes it in place, in the upper",
        Write.COPY_UP: f"copies it up: {counted(plan.bytes, 'byte')}{above}"
        if plan.bytes or not plan.directories
        else f"copies up {directories}, without content",
        Write.FETCH: f"first brings {counted(plan.bytes, 'byte')} of data into the upper",
        Write.CREATE: f"makes a new file in the upper{above}",
        Write.FOLLOW: "goes to what the link points to",
        Write.ATTRIBUTES: "goes to the device or reader; only attributes are kept here",
        Write.READ_ONLY: "is refused: read-only",
        Write.IMPOSSIBLE: "fails: there is no such directory",
    }[plan.what]

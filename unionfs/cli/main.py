"""The entry of the ``unionfs`` command: which form was called, and how failures are told.

Two forms share one program. The mount-helper form (``unionfs -o lowerdir=… TARGET``, a name
``mount.*``) is in ``cli.helper``; everything else goes to the command tree in ``cli.commands``.
This module imports neither before it knows which, because a mount's time is import time.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from unionfs.errors import UnionfsError, os_error_line

_WORDS = """
    image layer create mount umount ls ps inspect run bundle diff commit rm df gc check
    explain trace stats browse report cat serve help
"""
COMMANDS = frozenset(_WORDS.split())
INTERRUPTED = 130  # 128 + SIGINT and 128 + SIGPIPE, as a shell reports programs they ended
BROKEN_PIPE = 141
_SPAWNS = "unionfs.daemon.spawn"  # who has imported it may have forked a daemon
CALLED = "UNIONFS_CALLED"  # how the client in C was called, which has asked the resident spawner


def entry() -> None:
    """Run the command of ``sys.argv`` and leave with its exit status."""
    called = os.environ.pop(CALLED, None)  # and what this program starts does not get it
    if called is not None:
        sys.argv[0] = called
    status = main(sys.argv, ask_resident=called is None)
    if _SPAWNS in sys.modules:
        _leave(status)
    sys.exit(status)


def main(argv: Sequence[str], *, ask_resident: bool = True) -> int:
    """Run the command *argv* (program name first) and return its exit status.

    Every failure becomes one line on standard error; a traceback stands before it with ``-vv``.
    With *ask_resident* a mount is done by the resident spawner if there is one.
    """
    try:
        status = _by_resident(argv) if ask_resident and is_mount(argv) else None
        if status is None:
            status = _run(argv)
        _flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return BROKEN_PIPE
    except Exception as error:
        with contextlib.suppress(OSError):
            _flush()  # what was said before the error
        return _tell(error, traceback=_very_verbose(argv[1:]))


def _run(argv: Sequence[str]) -> int:
    try:
        return _form(argv)(argv)
    except SystemExit as end:  # of argparse: what was asked for with --help or --version is said
        return int(end.code or 0)


def is_helper_form(argv: Sequence[str]) -> bool:
    """Return whether *argv* is called as a mount helper (DESIGN: mount-helper form).

    That is when the program is called ``mount.*``, or when the first word is no command and either
    ``-o`` is there or there are exactly two words.
    """
    if os.path.basename(argv[0]).startswith("mount."):
        return True
    rest = after_global_options(argv[1:])
    if not rest or rest[0] in COMMANDS:
        return False
    if any(word.startswith("-o") for word in rest):
        return True
    return sum(not word.startswith("-") for word in rest) == 2


def is_mount(argv: Sequence[str]) -> bool:
    """Return whether *argv* is a call that the resident spawner does where there is one."""
    return is_helper_form(argv) or after_global_options(argv[1:])[:1] == ["mount"]


def _by_resident(argv: Sequence[str]) -> int | None:
    from unionfs.daemon.resident import ask

    return ask(argv)


def _form(argv: Sequence[str]) -> Callable[[Sequence[str]], int]:
    if is_helper_form(argv) or list(argv[1:]) in (["--version"], ["-V"]):
        from unionfs.cli.helper import run as run_helper

        return run_helper
    from unionfs.cli.commands import run

    return run


def after_global_options(words: Sequence[str]) -> Sequence[str]:
    """Return *words* from the first that is not an option of the whole program."""
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--root":
            at += 1
        elif not (
            word in ("--json", "--verbose", "--quiet", "-q")
            or word.startswith("--root=")
            or _is_verbose(word)
        ):
            break
        at += 1
    return words[at:]


def _is_verbose(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and not word[1:].strip("v")


def _very_verbose(words: Sequence[str]) -> bool:
    leading = words[: len(words) - len(after_global_options(words))]
    return sum(1 if w == "--verbose" else len(w) - 1 for w in leading if _verbose_word(w)) > 1


def _verbose_word(word: str) -> bool:
    return word == "--verbose" or _is_verbose(word)


def _tell(error: Exception, *, traceback: bool) -> int:
    """Say *error* in one line on standard error and return the exit status that it asks for."""
    if traceback:
        sys.excepthook(type(error), error, error.__traceback__)
    if isinstance(error, UnionfsError):
        message, status = str(error), error.exit_status
    elif isinstance(error, OSError):
        message, status = os_error_line(error), 1
    else:
        message = f"internal error: {type(error).__name__}: {error} (-vv shows where)"
        status = 1
    print(f"unionfs: error: {' '.join(message.split())}", file=sys.stderr)
    return status


def _flush() -> None:
    """Write what standard output still holds. Raises OSError naming it; what is left is dropped."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        _forget_output()
        raise OSError(error.errno, error.strerror, "standard output") from None


def _leave(status: int) -> NoReturn:
    """End at once, as who may have a daemon for a child: Python's own end takes 20 ms of a mount.

    It visits every object that there is, and each page that it shares with the daemon is copied
    for that.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _forget_output() -> None:
    """Let the interpreter's last flush of standard output meet no closed pipe and no full disk."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.close(nowhere)

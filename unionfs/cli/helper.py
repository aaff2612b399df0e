"""The mount-helper form: what mount(8) and container engines call.

``unionfs [SOURCE] TARGET -o OPTIONS`` with libfuse's ``-f`` (foreground) and ``-d`` (debug), or,
under a name ``mount.*``, with mount(8)'s flags (``-f`` is fake there). Exit status 0 only when the
mount answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from unionfs import __version__
from unionfs.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from unionfs.options import MountConfig

USAGE = """\
usage: unionfs -o lowerdir=DIR[:DIR…][,upperdir=DIR,workdir=DIR][,OPTION…] [SOURCE] TARGET
       mount -t fuse.unionfs SOURCE TARGET -o OPTIONS

  -o OPTIONS      mount options, separated by commas
  -f              stay in the foreground
  -d, --debug     stay in the foreground and say what happens
  -v              say what is mounted where
  -V, --version   print the version
  -h, --help      print this
As mount.*: -f fake, -s sloppy, -n no mtab, -t TYPE.
Options beside the directories: unionfs mount --help
"""


_MOUNT_S_DEFAULTS = "suid,dev"  # of mount(8), which mount.fuse3 adds as well


class HelperUsageError(UsageError):
    """The words of the mount-helper form do not make a mount."""


class NamespaceError(RefusedError):
    """mount(8) asks for another mount namespace."""


@dataclass(slots=True)
class Call:
    """The words of one call, sorted."""

    words: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    foreground: bool = False
    debug: bool = False
    fake: bool = False
    sloppy: bool = False
    verbose: bool = False
    answer: str | None = None  # what to print instead of mounting


def run(argv: Sequence[str]) -> int:
    """Do what the mount-helper call *argv* (program name first) asks; return the exit status.

    Raises UnionfsError and OSError with the reason when nothing was mounted.
    """
    as_mount = os.path.basename(argv[0]).startswith("mount.")
    call = read_words(argv[1:], as_mount=as_mount)
    if call.answer is not None:
        print(call.answer, end="")
        return 0
    if _asks_remount(call.options):
        _remount(call)
        return 0
    if as_mount and os.geteuid() == 0:
        call.options.insert(0, _MOUNT_S_DEFAULTS)
    _mount(call)
    return 0


def version() -> str:
    """Return what ``--version`` prints: this program's version and the FUSE library's."""
    from unionfs.syscalls import libfuse

    library = libfuse.version()
    found = "FUSE library not found" if library is None else f"FUSE library version {library}"
    return f"unionfs {__version__}\n{found}\n"


def read_words(words: Sequence[str], *, as_mount: bool) -> Call:
    """Sort the *words* after the program's name; *as_mount* when it is called ``mount.*``.

    Raises HelperUsageError for flags that do not exist and values that are missing, NamespaceError
    for ``-N``.
    """
    call = Call()
    left = iter(words)
    for word in left:
        if word == "--":
            call.words.extend(left)
        elif not word.startswith("-") or word == "-":
            call.words.append(word)
        elif word.startswith("-o"):
            call.options.append(word[2:] or _value(word, left))
        elif as_mount and word[:2] in ("-t", "-N"):
            _valued_mount_flag(word[:2], word[2:] or _value(word, left))
        else:
            _flag(call, word, as_mount)
    return call


def _value(flag: str, left: Iterator[str]) -> str:
    value = next(left, None)
    if value is None:
        raise HelperUsageError(f"{flag} needs a value")
    return value


def _valued_mount_flag(flag: str, value: str) -> None:
    if flag == "-N":
        raise NamespaceError(f"-N {value}: mounting in another namespace is not supported")


def _flag(call: Call, word: str, as_mount: bool) -> None:
    """Take in a word of flags: ``--name``, ``-f`` or several letters as ``-sn``."""
    for name in [word] if word.startswith("--") else [f"-{letter}" for letter in word[1:]]:
        if name in ("-h", "--help"):
            call.answer = USAGE
        elif name in ("-V", "--version"):
            call.answer = version()
        elif name == "-v":
            call.verbose = True
        elif not (_mount_flag if as_mount else _fuse_flag)(call, name):
            raise HelperUsageError(f"unknown option {name} (see: unionfs --help)")


def _mount_flag(call: Call, name: str) -> bool:
    if name == "-f":
        call.fake = True
    elif name == "-s":
        call.sloppy = True
    else:
        return name == "-n"  # there is no mtab to leave alone
    return True


def _fuse_flag(call: Call, name: str) -> bool:
    if name in ("-d", "--debug"):
        call.debug = call.foreground = True
    elif name == "-f":
        call.foreground = True
    else:
        return name == "-s"  # libfuse's "one thread": there never is another
    return True


def _asks_remount(options: Sequence[str]) -> bool:
    """Return whether a word among *options* may be ``remount``: quick, as every mount asks."""
    if not any("remount" in word for word in options):
        return False
    from unionfs.daemon.remount import is_asked

    return is_asked(options)


def _remount(call: Call) -> None:
    from unionfs.daemon.remount import remount

    if not call.words:
        raise HelperUsageError("no mount point to remount (see: unionfs --help)")
    if call.fake:
        return
    target = os.fsencode(call.words[-1])
    _name_ignored(call, remount(target, call.options, privileged=os.geteuid() == 0))


def _name_ignored(call: Call, options: Iterable[str]) -> None:
    if not call.sloppy:
        for option in options:
            print(f"unknown argument ignored: {option}", file=sys.stderr)


def _for_machine(config: MountConfig) -> MountConfig:
    """Return *config* less what has no meaning on this machine, which is ignored with a word."""
    from unionfs.syscalls import selinux

    if config.context is None or selinux.enabled():
        return config
    return replace(config, context=None, ignored=(*config.ignored, f"context={config.context}"))


def _mount(call: Call) -> None:
    if not call.words:
        raise HelperUsageError("no mount point: unionfs -o OPTIONS TARGET (see: unionfs --help)")
    if not call.options:
        raise HelperUsageError(
            f"no such command: {call.words[0]} (see: unionfs --help; "
            f"to mount on {call.words[-1]}, give -o lowerdir=…)"
        )
    from unionfs.daemon import spawn
    from unionfs.options import parse_helper_options

    config = _for_machine(parse_helper_options(call.options, privileged=os.geteuid() == 0))
    _name_ignored(call, config.ignored)
    if len(call.words) > 1 and config.fsname == "unionfs":
        config = replace(config, fsname=call.words[0])
    target = os.fsencode(call.words[-1])
    if call.verbose:
        print(f"unionfs: mounting on {call.words[-1]}", file=sys.stderr)
    if call.fake:
        return
    if call.foreground or config.debug:
        debug = call.debug or config.debug
        spawn.run_foreground(config, target, debug=debug, allow_nonempty=True)
    else:
        spawn.start(config, target, log=None, allow_nonempty=True)

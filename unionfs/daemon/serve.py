"""The daemon's side: becoming one, serving a mount until it is unmounted or told to leave.

``run`` never raises and ends in ``os._exit``: it runs in a fork of the command, and nothing of the
command (its stack, its exit handlers, its buffered output) may continue there.

SIGTERM and SIGINT, blocked since before the fork, unmount and leave with status 0; a busy mount is
detached. SIGHUP means nothing to a daemon and ends a foreground mount. SIGUSR1, at which
fuse-overlayfs prints counters (``unionfs stats`` has them), means nothing to a daemon either. If
the starter is gone when the mount is ready, nobody knows of it: it is undone.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, Protocol

from unionfs.daemon import client, logs, report
from unionfs.daemon.control import Freezable, listening
from unionfs.errors import UnionfsError
from unionfs.options import MountConfig

if TYPE_CHECKING:
    import trio

STOP = (signal.SIGTERM, signal.SIGINT)
HANGUP = (*STOP, signal.SIGHUP)
GRACE = 5.0  # seconds for requests under way after the first signal
_REPORT_FD = 3
# Objects between two searches for cycles, which look at every node that there is. Nodes, and what
# belongs to requests, go with their last reference and leave none. From before trio is imported:
# what an import makes is there to stay, and searching it takes time of every mount.
_GARBAGE = 100_000
_DESCRIPTORS = 4096  # 32 KiB of the kernel's memory; rm -rf of an image's /usr has 1,400

_log = logging.getLogger("unionfs.daemon")


class _StarterGoneError(Exception):
    """Nobody reads the readiness pipe any more."""


class MountSession(Freezable, Protocol):
    """What is served: ``unionfs.fuse.session.Session``, or a test's."""

    def mount(self) -> None:
        """Mount; from here on the kernel queues requests."""

    async def serve(self) -> None:
        """Answer requests until unmounted or terminated."""

    def terminate(self) -> None:
        """Make ``serve`` return."""

    def close(self) -> None:
        """Unmount if still mounted and release everything."""


SessionFactory = Callable[[MountConfig, bytes], MountSession]


def run(
    config: MountConfig,
    target: bytes,
    *,
    log: bytes | None,
    report_fd: int,
    factory: SessionFactory | None,
    control: bytes | None = None,
) -> NoReturn:
    """Be the daemon of *config* on *target* (absolute) until it is unmounted, then exit.

    One message goes through *report_fd* (see ``report``). The exit status is 0 after an unmount or
    a signal, 1 after a failure, which the log tells.
    """
    status = 1
    try:
        _detach(report_fd)
        status = _serve_reporting(config, target, log, factory, control)
    finally:
        os._exit(status)


def live(
    config: MountConfig,
    target: bytes,
    ready: Callable[[], None],
    *,
    signals: tuple[signal.Signals, ...],
    factory: SessionFactory | None,
    control: bytes | None = None,
) -> None:
    """Mount, call *ready*, serve until unmounted or until one of *signals*; then release all.

    Imports trio and pyfuse3. Raises UnionfsError or OSError if it cannot be mounted, anything from
    *ready*, and whatever ends the service other than an unmount. *control* is where the socket for
    requests to the daemon goes (``control``).
    """
    os.umask(0)
    _take_name(client.NAME.encode())
    make_room_for_descriptors()
    gc.set_threshold(_GARBAGE)
    import trio

    session = (factory or _default_factory())(config, target)
    try:
        session.mount()
        trio.run(_serve, session, ready, signals, control)
    finally:
        session.close()


def make_room_for_descriptors() -> None:
    """Raise the soft limit of descriptors to the hard one: every open file of a mount takes one.

    And have the kernel's table of them grow while there is one thread. Each time that it doubles
    with more, we would wait for all processors to see the old one no more (fs/file.c,
    expand_fdtable(), which calls synchronize_rcu()): some 10 ms.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    root = os.open(b"/", os.O_PATH)
    with suppress(OSError):  # EMFILE: the last one is taken, so the table is as large already
        os.close(fcntl.fcntl(root, fcntl.F_DUPFD_CLOEXEC, min(hard, _DESCRIPTORS) - 1))
    os.close(root)


def _default_factory() -> SessionFactory:
    from unionfs.fuse.session import Session

    return Session


async def _serve(
    session: MountSession,
    ready: Callable[[], None],
    signals: tuple[signal.Signals, ...],
    control: bytes | None,
) -> None:
    import trio

    with trio.open_signal_receiver(*signals) as received:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        failure = None
        async with listening(control, session), trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, received, session, nursery.cancel_scope)
            try:
                ready()
                await session.serve()
            except Exception as error:
                failure = error  # raised outside: a nursery would wrap it in a group
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _stop_on_signal(
    received: AsyncIterator[int], session: MountSession, scope: trio.CancelScope
) -> None:
    import trio

    number = await anext(received)
    _log.info("%s: leaving", signal.Signals(number).name)
    session.terminate()
    await trio.sleep(GRACE)
    _log.warning("requests are still under way after %.0f seconds: leaving all the same", GRACE)
    scope.cancel()


def _serve_reporting(
    config: MountConfig,
    target: bytes,
    log: bytes | None,
    factory: SessionFactory | None,
    control: bytes | None,
) -> int:
    """Serve with the outcome of starting sent to the starter; return the exit status."""
    told = False

    def ready() -> None:
        nonlocal told
        told = True
        _discard_stderr()
        try:
            report.send(_REPORT_FD, report.READY)
        except BrokenPipeError as error:
            raise _StarterGoneError from error

    try:
        logs.to_file_or_system(log)
        live(config, target, ready, signals=STOP, factory=factory, control=control)
        return 0
    except _StarterGoneError:
        _log.warning("whoever asked for the mount is gone: unmounted again")
    except Exception as error:
        if told or not isinstance(error, UnionfsError | OSError):
            _log.critical("the mount on %s ends", os.fsdecode(target), exc_info=True)
        if not told:
            report.send(_REPORT_FD, report.pack(error, beside=_stderr_so_far()))
    return 1


def _detach(report_fd: int) -> None:
    """Become a process of its own: session, directory, descriptors, signals."""
    gc.freeze()  # nothing that the command left behind is to be finalised here
    os.setsid()
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if report_fd != _REPORT_FD:
        os.dup2(report_fd, _REPORT_FD, inheritable=False)
    _replace_standard_descriptors()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > _REPORT_FD:
            _close_quietly(int(name))


def _replace_standard_descriptors() -> None:
    """Put /dev/null on 0 and 1, and on 2 a memory file that is read if mounting fails.

    libfuse and fusermount3 tell the reason of a failed mount on standard error only.
    """
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    memory = os.memfd_create("unionfs-stderr")
    os.dup2(memory, 2)


def _stderr_so_far() -> str:
    """Return what libfuse and fusermount3 have said, in one line of bounded length."""
    return " ".join(os.pread(2, 1024, 0).decode(errors="replace").split())


def _discard_stderr() -> None:
    os.dup2(1, 2)


def _close_quietly(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # the listing's own descriptor is gone already


def _take_name(name: bytes) -> None:
    """Be called *name* in ps(1) however the interpreter was started."""
    try:
        fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return  # /proc is read-only, or the process has changed its user: no reason not to mount
    os.write(fd, name)
    os.close(fd)


@contextmanager
def blocked(signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Hold *signals* back in this thread meanwhile; what is forked within starts with them so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

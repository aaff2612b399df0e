"""The resident spawner: a process that has everything imported and forks for each mount.

``resident`` is how it is asked. It is one thread and runs no event loop of trio's, so that what it
forks may run one. Each call is done by a child of its own, which is in all respects that count the
caller: its words, environment, working directory, umask, descriptors and limit of them. Callers
that a child cannot stand for (another user, other privileges, another mount, user or PID
namespace, another version) are told so and do it themselves; so are those that want no mount.

The child itself tells the caller how it went: that its memory is given back, which takes as long as
to make a process, need not be waited for.

What is mounted is in the spawner's control group, and lives on when the spawner ends.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from unionfs import __version__
from unionfs.daemon import spawn
from unionfs.daemon.resident import LONGEST, NOT_HERE, TAKEN
from unionfs.daemon.serve import STOP, blocked
from unionfs.errors import ConflictError, RefusedError

_log = logging.getLogger("unionfs.daemon")
_STANDARD = 3  # standard input, output and error
_FDS = _STANDARD + 1  # and the working directory
_PLACES = ("root", "ns/mnt", "ns/user", "ns/pid")
_SAME = ("Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:")
_FIRST_INHERITED = 3  # sd_listen_fds(3)

Work = Callable[[list[str]], int]
"""Does what the words of a call (program name first) ask, and returns the exit status."""

Wanted = Callable[[list[str]], bool]
"""Returns whether the words of a call (program name first) are for ``Work``."""


class SpawnerRunsError(ConflictError):
    """Another spawner listens there."""


class BadSocketError(RefusedError):
    """The socket's directory is not this user's alone."""


@contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    """Listen at *path*, or on what systemd passed (sd_listen_fds(3)), during the block.

    Raises SpawnerRunsError, BadSocketError, OSError.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        with socket.socket(fileno=_FIRST_INHERITED) as inherited:
            inherited.set_inheritable(False)
            yield inherited
        return
    _make_directory(os.path.dirname(path))
    _clear(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        made.bind(path)
        try:
            made.listen()
            yield made
        finally:
            os.unlink(path)


def _make_directory(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    status = os.lstat(path)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise BadSocketError(f"{path} can be written by others than its owner, or is not yours")


def _clear(path: str) -> None:
    """Remove the socket of a spawner that is gone. Raises SpawnerRunsError."""
    if not os.path.lexists(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise SpawnerRunsError(f"a spawner listens at {path} already")


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller sent: see ``resident.pack``."""

    umask: int
    words: list[str]
    environment: dict[bytes, bytes]


def unpack(message: bytes) -> Call:
    """Return the call that *message* is. Raises ValueError, also for one of another version."""
    version, umask, count, *rest = message.split(b"\0")
    if version != __version__.encode() or not 0 < int(count) <= len(rest):
        raise ValueError("a message of another version")
    words = [os.fsdecode(word) for word in rest[: int(count)]]
    pairs = [variable.partition(b"=") for variable in rest[int(count) :]]
    # As getenv(3) does it: the first of a name counts. One without a name cannot be set again.
    environment = {name: value for name, _, value in reversed(pairs) if name}
    return Call(int(umask, 8), words, environment)


class Spawner:
    """Does calls with *work* until SIGTERM or SIGINT, and then ends those that are begun.

    The signals are its own from the beginning on.
    """

    def __init__(self, work: Work, wanted: Wanted) -> None:
        self._work = work
        self._wanted = wanted
        self._standing = _standing("self")
        self._events = selectors.DefaultSelector()
        self._taken: dict[socket.socket, Callable[[socket.socket], None]] = {}  # how they begin
        self._callers: dict[int, socket.socket] = {}  # by the pid of the child
        self._stopping = False
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._noted)
        self._events.register(reading, selectors.EVENT_READ, self._signalled)

    def run(self, listener: socket.socket) -> None:
        """Serve at *listener*; return when told to stop and no call is under way any more."""
        gc.collect()
        gc.freeze()  # or a collection in each child would copy all of these pages
        listener.setblocking(False)
        self._events.register(listener, selectors.EVENT_READ, self._accept)
        while self._callers or not self._stopping:
            for key, _ in self._events.select():
                key.data(key.fileobj)
        for connection in self._taken:
            _send_quietly(connection, NOT_HERE)

    def _noted(self, number: int, frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    def _signalled(self, reading: int) -> None:
        os.read(reading, 512)
        for pid in list(self._callers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._tell(self._callers.pop(pid), os.waitstatus_to_exitcode(status))

    def _tell(self, connection: socket.socket, status: int) -> None:
        """Tell the caller how its call has ended (128 and more: by a signal), and hang up."""
        if connection in self._events.get_map():
            self._events.unregister(connection)
        with connection:
            try:
                connection.send(b"%d" % (status if status >= 0 else 128 - status))
            except OSError:
                pass  # it has gone, and nobody is to be told

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        self._events.register(connection, selectors.EVENT_READ, self._heard)

    def _heard(self, connection: socket.socket) -> None:
        """Take the call that comes, or begin it; or end the one whose caller has gone."""
        if connection.fileno() < 0:
            return  # its child was seen to have ended in this same turn
        self._events.unregister(connection)
        for pid, caller in self._callers.items():
            if caller is connection:
                # As at a Ctrl-C, a mount is undone. One that was not waited for is still there.
                os.kill(pid, signal.SIGINT)
                return
        step = self._taken.pop(connection, self._take)
        try:
            step(connection)
        except (OSError, ValueError) as error:
            _log.info("a call was not taken: %s", error)
            with connection:
                _send_quietly(connection, NOT_HERE)

    def _take(self, connection: socket.socket) -> None:
        """Take the call that *connection* brings.

        Raises OSError and ValueError where a child can not stand for the caller.
        """
        message, _, flags, _ = connection.recvmsg(LONGEST)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("more than a call")
        call = unpack(message)
        caller, user, _ = _credentials(connection)
        if not self._wanted(call.words):
            raise ValueError("a call for no mount")
        # The process may be another program by now, and have taken that one's privileges.
        if user != os.geteuid() or _standing(str(caller)) != self._standing:
            raise ValueError(f"process {caller} is not in our place")
        limits = resource.prlimit(caller, resource.RLIMIT_NOFILE)
        connection.send(TAKEN)
        self._taken[connection] = partial(self._begin, call=call, limits=limits)
        self._events.register(connection, selectors.EVENT_READ, self._heard)

    def _begin(self, connection: socket.socket, call: Call, limits: tuple[int, int]) -> None:
        """Fork a child for *call*, whose descriptors come. Raises OSError and ValueError."""
        _, descriptors, _, _ = socket.recv_fds(connection, 1, _FDS, socket.MSG_CMSG_CLOEXEC)
        try:
            if len(descriptors) != _FDS:
                raise ValueError("a call without its descriptors")
            with blocked(STOP):  # or the child might take for ours what is for it
                pid = os.fork()
                if pid == 0:
                    self._be(call, connection, descriptors, limits)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._callers[pid] = connection
        self._events.register(connection, selectors.EVENT_READ, self._heard)

    def _be(
        self,
        call: Call,
        connection: socket.socket,
        descriptors: list[int],
        limits: tuple[int, int],
    ) -> NoReturn:
        """Be *call*'s caller, in the child: do what it asked, and tell it the exit status.

        Or undo it, where the caller has gone by then.
        """
        status = 1
        try:
            _become(call, connection.fileno(), descriptors, limits)
            status = self._work(call.words)
            _end_output()
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # who has been told hangs up, too
            connection.send(b"%d" % status)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except (OSError, KeyboardInterrupt):
            status = 1
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
            spawn.undo()
        finally:
            os._exit(status)


def _end_output() -> None:
    """Write out what was said, and let whoever reads it see its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    for number in range(_STANDARD):
        os.close(number)


def _become(call: Call, connection: int, descriptors: list[int], limits: tuple[int, int]) -> None:
    signal.set_wakeup_fd(-1)
    for handled in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(handled, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    for number, descriptor in enumerate(descriptors[:_STANDARD]):
        os.dup2(descriptor, number)
    os.fchdir(descriptors[_STANDARD])
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= _STANDARD and int(name) != connection:
            _close_quietly(int(name))
    _take_environment(call.environment)
    os.umask(call.umask)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def _take_environment(wanted: dict[bytes, bytes]) -> None:
    """Make *wanted* the environment; what is the same already is left alone, which is quicker."""
    for name in os.environb.keys() - wanted.keys():
        del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _close_quietly(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass  # the listing's own


def _send_quietly(connection: socket.socket, answer: bytes) -> None:
    try:
        connection.send(answer)
    except OSError:
        pass


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    """Return pid, user and group of the other end (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("iII")
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, gid = struct.unpack("iII", found)
    return pid, uid, gid


def _standing(pid: str) -> tuple[list[tuple[int, int]], list[str]]:
    """Return what a child takes over from us: namespaces and root directory, users and privileges.

    *pid* may be "self". Raises OSError where that is not to be seen.
    """
    places = [os.stat(f"/proc/{pid}/{name}") for name in _PLACES]
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        privileges = [line for line in file if line.startswith(_SAME)]
    return [(place.st_dev, place.st_ino) for place in places], privileges

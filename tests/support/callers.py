"""Who makes the calls: processes of their own, one for each user, that live through all tables."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import resource
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LONG_SECONDS = 10  # a call that hangs is an answer, and a wrong one
_OUR_FDS = 500
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True, slots=True)
class User:
    """*bare*: without any capability, which only matters for user ID 0."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    bare: bool = False

    def become(self) -> None:
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        if self.bare:
            _drop_capabilities()


ROOT = User("root", 0, 0)
OWNER = User("owner", 1000, 1000, (3000,))
MEMBER = User("member", 1001, 1001, (3000, 5000))
OTHER = User("other", 1002, 1002, (5000,))
BARE = User("bare root", 0, 0, (), bare=True)
EVERYBODY = (ROOT, OWNER, MEMBER, OTHER, BARE)


def _drop_capabilities() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if libc.capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


Work = Callable[..., Any]


class Callers:
    """The users' processes. They are forked when first asked, and know what was imported then."""

    def __init__(self, perform: Work) -> None:
        """*perform* is called in the process, with what ``ask`` is given after the user."""
        self._perform = perform
        self._children: dict[User, tuple[int, int, int]] = {}

    def ask(self, user: User, folder: bytes, umask: int, *request: Any) -> Any:
        """Let *user*, in *folder*, do *request*; return the answer, or the errno's name."""
        _pid, read, write = self._children.get(user) or self._start(user)
        _send(write, (folder, umask, request))
        return _receive(read)

    def _start(self, user: User) -> tuple[int, int, int]:
        down, up = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(down[1])
            os.close(up[0])
            for _pid, read, write in self._children.values():  # or their ends would never come
                os.close(read)
                os.close(write)
            try:
                _serve(user, self._perform, down[0], up[1])
            finally:
                os._exit(1)
        os.close(down[0])
        os.close(up[1])
        self._children[user] = (pid, up[0], down[1])
        return self._children[user]

    def close(self) -> None:
        for pid, read, write in self._children.values():
            os.close(write)
            os.close(read)
            os.waitpid(pid, 0)
        self._children.clear()


def _serve(user: User, perform: Work, read: int, write: int) -> None:
    """Answer requests until the other end closes; nothing that was opened stays open."""
    read, write = _move_up(read, 0), _move_up(write, 1)
    os.closerange(3, _OUR_FDS)
    os.closerange(_OUR_FDS + 2, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    user.become()
    while (request := _receive(read)) is not None:
        folder, umask, words = request
        os.umask(umask)
        signal.alarm(_LONG_SECONDS)
        answer = answer_of(os.chdir, folder)
        if answer is None:
            answer = answer_of(perform, *words)
        signal.alarm(0)
        os.chdir("/")
        os.closerange(3, _OUR_FDS)
        _send(write, answer)


def _move_up(fd: int, place: int) -> int:
    """Return a copy of *fd* out of the way of what calls open: so that all of that is found."""
    os.dup2(fd, _OUR_FDS + place)
    return _OUR_FDS + place


def answer_of(call: Work, *args: Any) -> Any:
    """Return what *call* returns, or the name of its errno."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0] if error.errno else f"failed: {error}"
    except Exception as error:  # a mistake in a table must not end the process that shows it
        return f"failed: {error!r}"


def _too_long(_number: int, _frame: Any) -> None:
    raise OSError(errno.ETIME, "the call hangs")


def _send(fd: int, value: Any) -> None:
    data = pickle.dumps(value)
    data = struct.pack("=I", len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


def _receive(fd: int) -> Any:
    """Return the next value; None at the end."""
    head = _exactly(fd, 4)
    return pickle.loads(_exactly(fd, struct.unpack("=I", head)[0])) if head else None


def _exactly(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(fd, count - len(data))
        if not piece:
            return b""
        data += piece
    return data

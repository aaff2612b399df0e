"""``unionfs`` commands by a process that has the program loaded and forks for each of them.

A start of Python with the program's modules is nearly all of what most commands take, and tests
have some 1,600 of them. What runs is the same entry, in a process of its own with the caller's
words, streams, environment, directory and umask. It ends as a command does that may have made a
daemon. The full run starts each command as users do.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_REPO = str(Path(__file__).parents[2])
_SIZE = 1 << 20
_AT_START = ("PYTHON", "LC_", "LANG", "LD_")  # variables that say how Python starts
_LATER = ("unionfs.fuse", "unionfs.daemon", "unionfs.__main__")  # what a daemon imports for itself


def run(
    words: Sequence[str], env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ``unionfs`` with *words* to its end; return its status and all that it said.

    As subprocess.run() it waits for the end of both streams, whoever holds them. Raises
    subprocess.TimeoutExpired after *timeout* seconds, when the command has been killed.
    """
    ends = [os.pipe() for _ in range(3)]
    theirs = [end[1] for end in ends]
    how = tuple(item for item in sorted(env.items()) if item[0].startswith(_AT_START))
    call = json.dumps([[*words], dict(env), os.getcwd(), _umask()]).encode()
    with _closing(end[0] for end in ends):
        with _closing(theirs):
            socket.send_fds(_loaded(how, _namespaces()), [call], [0, *theirs])
        out, err, told = _read(dict.fromkeys([end[0] for end in ends], b""), timeout, words)
    return subprocess.CompletedProcess([*words], int(told.split()[1]), out.decode(), err.decode())


def end() -> None:
    """End the processes that wait for commands."""
    for one, connection in _started:
        connection.shutdown(socket.SHUT_RDWR)  # a process that a test forked may have it as well
        connection.close()
        one.wait()
    _started.clear()
    _loaded.cache_clear()


_started: list[tuple[subprocess.Popen[bytes], socket.socket]] = []


@functools.cache
def _loaded(told: tuple[tuple[str, str], ...], _where: tuple[str, ...]) -> socket.socket:
    """Start what forks, *told* by its environment how; return the way to it.

    There is one for each *_where*, the namespaces that we are in now, and that it starts in.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = its.fileno()
    words = [sys.executable, "-m", "tests.support.loaded", str(number)]
    one = subprocess.Popen(words, pass_fds=[number], env={**os.environ, **dict(told)}, cwd=_REPO)
    its.close()
    _started.append((one, ours))
    assert ours.recv(8), "it did not load: see its standard error"
    return ours


def _namespaces() -> tuple[str, ...]:
    return tuple(os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "user"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _closing(numbers: Iterable[int]):
    try:
        yield
    finally:
        for number in numbers:
            os.close(number)


def _read(found: dict[int, bytes], timeout: float, words: Sequence[str]) -> list[bytes]:
    """Read each of *found* to its end; the last of them tells of the process."""
    told, deadline = list(found)[-1], time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for number in found:
            selector.register(number, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(deadline - time.monotonic())
            if not ready:
                os.kill(int(found[told].split()[0]), signal.SIGKILL)
                while os.read(told, 64):
                    pass  # until it is gone
                raise subprocess.TimeoutExpired([*words], timeout)
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                found[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return list(found.values())


def _serve(connection: socket.socket) -> None:
    """Fork for each call that comes, and tell of each process its pid and at its end its status."""
    _load()
    connection.send(b"loaded")
    woken, wakes = socket.socketpair()
    for one in (woken, wakes):
        one.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    running: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if woken in ready:
                woken.recv(4096)
                _reap(running)
            if connection in ready:
                call, descriptors, _, _ = socket.recv_fds(connection, _SIZE, 4)
                if not call:
                    return
                pid = os.fork()
                if pid == 0:
                    _become(call, descriptors)
                for number in descriptors[:3]:
                    os.close(number)
                running[pid] = descriptors[3]
                os.write(descriptors[3], b"%d" % pid)


def _load() -> None:
    """Import all that a command may import before it makes a daemon."""
    import unionfs

    for module in pkgutil.walk_packages(unionfs.__path__, "unionfs."):
        if not module.name.startswith(_LATER):
            importlib.import_module(module.name)
    assert "pyfuse3" not in sys.modules  # it would be there before the extension


def _reap(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        number = running.pop(pid)
        os.write(number, b" %d" % os.waitstatus_to_exitcode(status))
        os.close(number)


def _become(call: bytes, descriptors: Sequence[int]) -> NoReturn:
    """Be the command of *call*."""
    words, environment, directory, mask = json.loads(call)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    os.closerange(3, max(descriptors) + 64)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    os.umask(mask)
    from unionfs.cli.main import entry

    sys.argv[:] = [os.path.join(_REPO, "unionfs", "__main__.py"), *words]
    entry()
    raise AssertionError("a command that came back")


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))

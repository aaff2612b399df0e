"""What Unix sockets with names do in a directory: ``python -m tests.support.sockets ROOT HOW…``.

Prints a line for each step. To the kernel a bound socket is the inode that its name leads to, so
each step asks whether a name still leads to the same one. Layers that it expects: ``build``.

HOW: with ``forget`` the kernel has to look every name up again, which only the machine's root can
make it do; with ``rename`` the socket gets no second name (README.md, "Limits").

A socket's address holds 107 bytes, so names are short and all of it is done in ROOT.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Callable

from tests.support import kernel


def build(lower: bytes) -> None:
    """Make what is in the lower layer: two directories and sockets that nobody listens to."""
    for name in (b"/run", b"/other"):
        os.mkdir(lower + name)
    for name in (b"/run/stale", b"/run/older"):
        os.mknod(lower + name, stat.S_IFSOCK | 0o755)


def _answer(call: Callable[[], object]) -> str:
    try:
        return str(call())
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _heard(server: socket.socket, name: str) -> str:
    """Call the listening *server* by *name*; return what it hears."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)
        client.sendall(b"heard")
        with server.accept()[0] as line:
            return line.recv(9).decode()


def _bound(name: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.settimeout(10)
    server.bind(name)
    server.listen(1)
    return server


def _refused(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)


def _datagram(name: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"heard", name)
        return server.recv(9).decode()


def _shown(name: str) -> str:
    return stat.filemode(os.lstat(name).st_mode)


def _link(old: str, new: str) -> None:
    os.link(old, new)
    os.unlink(old)


def _moves(
    server: socket.socket, forget: Callable[[], None], link: Callable[[str, str], None]
) -> list[str]:
    """Give the bound socket at ``run/s`` other names, and call it by each."""
    os.chmod("run/s", 0o700)
    found = [_shown("run/s"), _answer(lambda: _heard(server, "run/s"))]
    forget()
    found += [_shown("run/s"), _answer(lambda: _heard(server, "run/s"))]
    os.rename("run/s", "other/s")
    found += [_answer(lambda: _heard(server, "other/s")), _answer(lambda: _refused("run/s"))]
    os.rename("other", "moved")
    found.append(_answer(lambda: _heard(server, "moved/s")))
    link("moved/s", "run/again")
    found.append(_answer(lambda: _heard(server, "run/again")))
    forget()
    return [*found, _answer(lambda: _heard(server, "run/again"))]


def _stale() -> list[str]:
    """Use the names of sockets that came with the layer."""
    found = [_answer(lambda: _refused("run/stale")), _answer(lambda: _bound("run/stale"))]
    os.chmod("run/older", 0o711)
    found += [_shown("run/older"), _answer(lambda: _refused("run/older"))]
    os.unlink("run/stale")
    with _bound("run/stale") as server:
        found.append(_answer(lambda: _heard(server, "run/stale")))
    return [*found, _answer(lambda: _refused("run/stale"))]


def main() -> None:
    os.chdir(sys.argv[1])
    os.umask(0o022)
    how = sys.argv[2:]
    forget = kernel.forget if "forget" in how else (lambda: None)
    link = os.rename if "rename" in how else _link
    with _bound("run/s") as server:
        steps = [_shown("run/s"), _answer(lambda: _bound("run/s"))]
        steps.append(_answer(lambda: os.open("run/s", os.O_RDWR)))
        steps += _moves(server, forget, link)
    steps += [_answer(lambda: _refused("run/again")), _answer(lambda: _datagram("run/d"))]
    print("\n".join([*steps, *_stale()]))


if __name__ == "__main__":
    main()

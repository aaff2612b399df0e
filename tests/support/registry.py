"""A real registry on loopback, and a relay before it that can hold back what it answers.

with Registry(tmp_path) as registry:
    registry.name("a/b:1")     # 127.0.0.1:PORT/a/b:1
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

PROGRAM = "docker-registry"
PLAIN = "--tls-verify=false"
CREDENTIALS = "ann:secret"
_HTPASSWD = "ann:$2b$04$W2/EmCrSIBv.G6Wi01f6d.Z3RWMzfBwOY7/TD4WPmVa35PO.kxWOS\n"
_SECONDS = 20
_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}", relativeurls: true, secret: any}}
"""
_AUTH = "auth: {{htpasswd: {{realm: tests, path: {path}}}}}\n"
_REQUEST = re.compile(rb"(?:^|\r\n|\n)(GET|HEAD|POST|PUT|PATCH) (\S+) HTTP/1.1\r\n")


class Registry:
    """Debian's docker-registry with its data below *place*; *with_auth* it asks who comes."""

    def __init__(self, place: Path, *, with_auth: bool = False) -> None:
        self.data = place / "data"
        self.port = free_port()
        self._config = place / "registry.yml"
        text = _CONFIG.format(data=self.data, port=self.port)
        if with_auth:
            (place / "htpasswd").write_text(_HTPASSWD)
            text += _AUTH.format(path=place / "htpasswd")
        self._config.write_text(text)
        self._log = place / "registry.log"

    def name(self, rest: str) -> str:
        """Return the reference of *rest* here."""
        return f"127.0.0.1:{self.port}/{rest}"

    def __enter__(self) -> Self:
        program = shutil.which(PROGRAM)
        assert program, "scripts/setup.sh test installs it"
        words = [program, "serve", str(self._config)]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_SECONDS)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/", timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False
        return True


class Relay:
    """Passes connections on to *registry*, whose answers it holds back after *most* bytes of one
    connection, where *most* is set, and which hears no request of the method *swallows*.
    ``requests`` has what was asked for, ``GET /v2/…``; ``holding`` is set when it keeps somebody
    waiting."""

    def __init__(self, registry: Registry) -> None:
        self.requests: list[str] = []
        self.most: int | None = None
        self.swallows = b""
        self.holding = threading.Event()
        self._registry = registry
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def name(self, rest: str) -> str:
        """Return the reference of *rest* here."""
        return f"127.0.0.1:{self.port}/{rest}"

    def asked(self, method: str, part: str) -> Sequence[str]:
        """Return the requests with this method whose path has *part* in it."""
        return [one for one in self.requests if one.startswith(f"{method} ") and part in one]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Close everything, as a registry does that goes away."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._registry.port))
                self._open += [client, server]
                threading.Thread(target=self._relay, args=(client, server), daemon=True).start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError, ValueError), client, server:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(1 << 14)
                    if not data:
                        return
                    if ready is client:
                        for method, path in _REQUEST.findall(data):
                            self.requests.append(f"{method.decode()} {path.decode()}")
                            if method == self.swallows:
                                self.holding.set()
                                while client.recv(1 << 14):
                                    pass
                                return
                        server.sendall(data)
                        continue
                    passed += len(data)
                    if self.most is not None and passed > self.most:
                        self.holding.set()
                        client.recv(1)  # until it goes
                        return
                    client.sendall(data)


def free_port() -> int:
    """Return a TCP port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def without_skopeo(place: Path) -> dict[str, str]:
    """Return an environment in which no program is found."""
    place.mkdir()
    return {**os.environ, "PATH": str(place)}


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something to become true; fail after some seconds."""
    deadline = time.monotonic() + _SECONDS
    while not true():
        assert time.monotonic() < deadline, "it does not become true"
        time.sleep(0.02)

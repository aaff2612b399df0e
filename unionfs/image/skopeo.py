"""Running skopeo, which speaks to registries: credentials, certificates, mirrors are its business.

Manifests are asked for by ``skopeo inspect --raw``, byte for byte. Layers come from ``skopeo
experimental-image-proxy``, which streams a blob through a pipe, so that nothing is written before
it is unpacked; the protocol is that of containers/skopeo, cmd/skopeo/proxy.go: JSON in packets on
a socket pair, the reading end of a pipe beside the answer.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from unionfs.digest import Digest
from unionfs.errors import NotFoundError, UnavailableError, UnionfsError

_PROGRAM = "skopeo"
_PACKET = 1 << 16
_PARSING = re.compile(r'^Error parsing image name "[^"]*": ')
_PROTOCOL = "0.2."  # what was there before the number changed by more would be another protocol
_FATAL = re.compile(rb'level=fatal msg=("(?:[^"\\]|\\.)*"|\S+)')
_HINTS = (
    ("HTTP response to HTTPS client", " (--tls-verify=false allows plain HTTP)"),
    ("unauthorized", " (--creds or --authfile says who you are)"),
    ("authentication required", " (--creds or --authfile says who you are)"),
)
_ABSENT = ("manifest unknown", "name unknown", "repository name not known", "StatusCode: 404")


class SkopeoMissingError(UnavailableError):
    """skopeo is not installed, or is too old."""


class RegistryError(UnavailableError):
    """A registry does not answer, or does not let us."""


class NotInRegistryError(NotFoundError):
    """A registry has no such image."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to get at a registry, in the words of skopeo's options; None: as skopeo finds it."""

    creds: str | None = None
    authfile: str | None = None
    tls_verify: bool | None = None

    def words(self, side: str = "") -> list[str]:
        """Return skopeo's options, those of one *side* (``dest-``) where it has two."""
        found = [] if self.creds is None else [f"--{side}creds={self.creds}"]
        if self.authfile is not None:
            found.append(f"--{side}authfile={self.authfile}")
        if self.tls_verify is not None:
            found.append(f"--{side}tls-verify={str(self.tls_verify).lower()}")
        return found


def require() -> None:
    """Raise SkopeoMissingError unless skopeo is installed."""
    _program()


def manifest(access: Access, image: str) -> bytes:
    """Return the manifest or index of *image* (``docker://…``) as the registry has it.

    Raises SkopeoMissingError, NotInRegistryError, RegistryError.
    """
    words = [_program(), "inspect", "--raw", *access.words(), image]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise _failure(done.stderr)
    return done.stdout


def copy(access: Access, source: str, target: str, terminal: IO[str] | None) -> None:
    """Copy the image *source* to *target* (``docker://…``) without changing a byte of it.

    What the registry has already is not sent. Bars are drawn on *terminal*, if it is one. Raises
    SkopeoMissingError, RegistryError.
    """
    words = [_program(), "copy", "--preserve-digests", *access.words("dest-"), source, target]
    out = subprocess.DEVNULL if terminal is None else terminal
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE
    ) as process:
        try:
            said = process.communicate()[1]
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise _failure(said)


class Proxy:
    """One ``skopeo experimental-image-proxy``. It gives one blob at a time."""

    def __init__(self, access: Access) -> None:
        """Raises SkopeoMissingError, RegistryError."""
        program = _program()
        self._images: dict[str, int] = {}
        self._errors = os.memfd_create("skopeo-errors")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [program, "experimental-image-proxy", *access.words()]
        with theirs:
            self._process = subprocess.Popen(
                words, stdin=theirs.fileno(), stdout=self._errors, stderr=self._errors
            )
        try:
            version, _, _ = self._call("Initialize")
            if not str(version).startswith(_PROTOCOL):
                raise SkopeoMissingError(
                    f"skopeo's image proxy speaks the protocol {version}, and not {_PROTOCOL}x"
                )
        except BaseException:
            self.close()
            raise

    def blob(self, image: str, digest: Digest, size: int) -> int:
        """Start to fetch a blob of *image*; return what to read it from.

        It ends early where fetching fails: ``finish`` says why, once all has been read. Raises
        RegistryError.
        """
        opened = self._images.get(image)
        if opened is None:
            opened = self._images[image] = int(self._call("OpenImage", image)[0])
        _, pipe, fd = self._call("GetBlob", opened, str(digest), size)
        if fd is None:
            raise RegistryError("skopeo sends no pipe for a blob")
        try:
            self._send("FinishPipe", pipe)  # answered when the blob has ended; closes the pipe
        except BaseException:
            os.close(fd)
            raise
        return fd

    def finish(self) -> None:
        """Hear how the blob ended. Raises RegistryError if not well."""
        self._answer()

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._socket.close()
        os.close(self._errors)

    def interrupt(self) -> None:
        """Make it end: what waits for it, in whatever thread, goes on."""
        self._process.kill()

    def _call(self, method: str, *words: object) -> tuple[Any, int, int | None]:
        self._send(method, *words)
        return self._answer()

    def _send(self, method: str, *words: object) -> None:
        try:
            self._socket.send(json.dumps({"method": method, "args": words}).encode())
        except OSError as error:
            raise self._died() from error

    def _answer(self) -> tuple[Any, int, int | None]:
        """Return the value, the pipe's number and the descriptor of the next answer."""
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, _PACKET, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise self._died() from error
        if not data:
            raise self._died()
        reply = json.loads(data)
        if not reply.get("success"):
            raise _told(str(reply.get("error")))
        return reply.get("value"), int(reply.get("pipeid") or 0), next(iter(fds), None)

    def _died(self) -> UnionfsError:
        self._process.wait()
        return _failure(os.pread(self._errors, _PACKET, 0))


class Proxies:
    """As many proxies as blobs are being fetched at a time; idle ones are used again."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._idle: list[Proxy] = []
        self._busy: list[Proxy] = []
        self._lock = threading.Lock()

    def take(self) -> Proxy:
        """Return a proxy for one blob. Raises SkopeoMissingError, RegistryError."""
        with self._lock:
            if self._idle:
                self._busy.append(self._idle.pop())
                return self._busy[-1]
        proxy = Proxy(self._access)
        with self._lock:
            self._busy.append(proxy)
        return proxy

    def give_back(self, proxy: Proxy) -> None:
        """Let *proxy*, whose blob ended well, be used again."""
        with self._lock:
            self._busy.remove(proxy)
            self._idle.append(proxy)

    def drop(self, proxy: Proxy) -> None:
        """End *proxy*, whose blob did not end."""
        with self._lock:
            self._busy.remove(proxy)
        proxy.close()

    def interrupt(self) -> None:
        """Make those end that fetch something: what waits for them goes on."""
        with self._lock:
            for proxy in self._busy:
                proxy.interrupt()

    def close(self) -> None:
        """End those that are idle."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


def _program() -> str:
    found = shutil.which(_PROGRAM)
    if found is None:
        raise SkopeoMissingError("skopeo is not installed: registries are spoken to through it")
    return found


def _failure(said: bytes) -> UnionfsError:
    """Return the error for what skopeo said on standard error before it gave up."""
    found = _FATAL.findall(said)
    if found:
        text = os.fsdecode(found[-1])
        try:
            return _told(str(json.loads(text)))
        except ValueError:
            return _told(text)
    lines: Sequence[bytes] = said.strip().splitlines()
    return _told(os.fsdecode(lines[-1]) if lines else "skopeo ended without a reason")


def _told(message: str) -> UnionfsError:
    """Return the error for skopeo's *message*."""
    message = _PARSING.sub("", message)
    if any(words in message for words in _ABSENT):
        return NotInRegistryError(message)
    hint = next((hint for words, hint in _HINTS if words in message), "")
    return RegistryError(message + hint)

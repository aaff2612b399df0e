"""A proxy snapshotter for containerd whose mounts are of type ``fuse3.unionfs``.

    python -m tests.support.snapshotter SOCKET DIRECTORY

What it knows is in memory, and what is written is below DIRECTORY: ``N/fs`` and ``N/work`` of each
snapshot, and ``names``, a JSON object of the snapshots and their numbers. The messages are those of
``containerd/api/services/snapshots/v1/snapshots.proto``; the few that are needed are packed and
unpacked here, so that no code has to be generated.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

SERVICE = "containerd.services.snapshots.v1.Snapshots"
UNARY = ["Prepare", "View", "Mounts", "Commit", "Remove", "Stat", "Update", "Usage", "Cleanup"]
VIEW, ACTIVE, COMMITTED = 1, 2, 3


def number(value: int) -> bytes:
    """Pack a number in protobuf's way, seven bits a byte."""
    more, low = divmod(value, 128)
    return bytes([low | 128]) + number(more) if more else bytes([low])


def text(field: int, value: str | bytes) -> bytes:
    """Pack a field that is a string or a message."""
    data = os.fsencode(value)
    return number(field << 3 | 2) + number(len(data)) + data


def texts(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Unpack a message's strings and messages; numbers are left out."""
    place = 0

    def take() -> int:
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key, size = take(), take()
        if key & 7 == 2:  # or it was a number, and that was it
            yield key >> 3, message[place : place + size]
            place += size


@dataclass
class Snapshot:
    kind: int
    name: str
    parent: str
    number: int

    def info(self) -> bytes:
        kind = number(3 << 3) + number(self.kind)
        return text(1, self.name) + text(2, self.parent) + kind


class Refused(Exception):
    """The answer is a status of gRPC's."""


class Snapshotter:
    """The calls of the service; each takes a message's fields and returns a message."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.all: dict[str, Snapshot] = {}
        self.made = 0
        (place / "empty").mkdir()
        self.note()

    def note(self) -> None:
        names = {one.name: one.number for one in self.all.values()}
        (self.place / "new").write_text(json.dumps(names))
        (self.place / "new").rename(self.place / "names")

    def find(self, name: str) -> Snapshot:
        if name not in self.all:
            raise Refused(grpc.StatusCode.NOT_FOUND, name)
        return self.all[name]

    def directory(self, snapshot: Snapshot, what: str) -> str:
        return str(self.place / str(snapshot.number) / what)

    def mounts(self, snapshot: Snapshot) -> bytes:
        """Return the one mount of *snapshot*: all is unpacked and run through ours."""
        lowers, parent = [], snapshot.parent
        while parent:
            lowers.append(self.directory(self.all[parent], "fs"))
            parent = self.all[parent].parent
        words = [f"lowerdir={':'.join(lowers) or self.place / 'empty'}"]
        if snapshot.kind == ACTIVE:
            words.append(f"upperdir={self.directory(snapshot, 'fs')}")
            words.append(f"workdir={self.directory(snapshot, 'work')}")
        mount = text(1, "fuse3.unionfs") + text(2, "overlay")
        return text(1, mount + b"".join(text(4, word) for word in words))

    def make(self, kind: int, name: str, parent: str) -> bytes:
        if name in self.all:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, name)
        if parent:
            self.find(parent)
        self.made += 1
        snapshot = self.all[name] = Snapshot(kind, name, parent, self.made)
        for what in ("fs", "work"):
            os.makedirs(self.directory(snapshot, what), 0o755)
        self.note()
        return self.mounts(snapshot)

    def Prepare(self, fields: dict[int, str]) -> bytes:
        return self.make(ACTIVE, fields[2], fields.get(3, ""))

    def View(self, fields: dict[int, str]) -> bytes:
        return self.make(VIEW, fields[2], fields.get(3, ""))

    def Mounts(self, fields: dict[int, str]) -> bytes:
        return self.mounts(self.find(fields[2]))

    def Commit(self, fields: dict[int, str]) -> bytes:
        if fields[2] in self.all:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, fields[2])
        snapshot = self.find(fields[3])
        del self.all[fields[3]]
        snapshot.name, snapshot.kind = fields[2], COMMITTED
        self.all[snapshot.name] = snapshot
        self.note()
        return b""

    def Remove(self, fields: dict[int, str]) -> bytes:
        snapshot = self.find(fields[2])
        if any(one.parent == snapshot.name for one in self.all.values()):
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "it has children")
        del self.all[snapshot.name]
        shutil.rmtree(self.directory(snapshot, "."))
        self.note()
        return b""

    def Stat(self, fields: dict[int, str]) -> bytes:
        return text(1, self.find(fields[2]).info())

    def Update(self, fields: dict[int, str]) -> bytes:
        """containerd keeps the labels, which are all that can change."""
        asked = dict(texts(os.fsencode(fields[2])))
        return text(1, self.find(os.fsdecode(asked[1])).info())

    def Usage(self, fields: dict[int, str]) -> bytes:
        self.find(fields[2])
        return b""

    def Cleanup(self, fields: dict[int, str]) -> bytes:
        return b""

    def List(self, fields: dict[int, str]) -> bytes:
        return b"".join(text(1, one.info()) for one in self.all.values())


def serve(socket: str, place: Path) -> None:
    """Answer on *socket* for ever, one call at a time."""
    calls = Snapshotter(place)

    def answer(name: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def one(message: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                return getattr(calls, name)(
                    {key: os.fsdecode(value) for key, value in texts(message)}
                )
            except Refused as refused:
                context.abort(*refused.args)
                raise

        return one

    handlers = {name: grpc.unary_unary_rpc_method_handler(answer(name)) for name in UNARY}
    listing = answer("List")
    handlers["List"] = grpc.unary_stream_rpc_method_handler(lambda *words: iter([listing(*words)]))
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))

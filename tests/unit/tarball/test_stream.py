"""The read-ahead thread: errors come out, nothing waits for ever, progress adds up."""

from __future__ import annotations

import hashlib
import io
import os
import threading

import pytest

from tests.support import tars
from tests.support.layers import FLAVOUR, apply, directory
from unionfs.errors import CorruptError
from unionfs.tarball.apply import apply_layer
from unionfs.tarball.limits import Limits


def run(tmp_path, source, progress=None):
    with directory(tmp_path) as fd:
        return apply_layer(source, fd, flavour=FLAVOUR, limits=Limits(), progress=progress)


def threads() -> int:
    return sum(thread.name == "tar-read-ahead" for thread in threading.enumerate())


def test_digest_size_and_progress_cover_every_byte(tmp_path):
    data = tars.tar(tars.file("a", os.urandom(3_000_001)), end=bytes(5000))
    steps: list[int] = []
    applied = run(tmp_path, io.BytesIO(data), steps.append)
    assert applied.diff_id.hex == hashlib.sha256(data).hexdigest()
    assert applied.tar_size == sum(steps) == len(data)
    assert (applied.entries, applied.content_size) == (1, 3_000_001)
    assert threads() == 0


@pytest.mark.parametrize("step", [1, 7, 511, 513])
def test_short_reads(tmp_path, step):
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(step)

    data = tars.tar(tars.gnu_long("n" * 150) + tars.file("x", b"abc" * 500), tars.file("b"))
    applied = run(tmp_path, Slow(data))
    assert (tmp_path / ("n" * 150)).read_bytes() == b"abc" * 500
    assert applied.tar_size == len(data)


def test_errors_of_the_source_come_out(tmp_path):
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise CorruptError("the source broke")

    with pytest.raises(CorruptError, match="the source broke"):
        run(tmp_path, Broken())
    assert threads() == 0


def test_an_error_in_the_middle_of_an_endless_source_ends_the_thread(tmp_path):
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return b"\xff" * (1 << 20)

    with pytest.raises(CorruptError, match="not a tar archive"):
        run(tmp_path, Endless())
    assert threads() == 0


def test_an_error_of_progress_ends_it(tmp_path):
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, io.BytesIO(bytes(20 << 20)), stop)
    assert threads() == 0


@pytest.mark.parametrize("data", [b"", tars.END, bytes(10240)])
def test_empty_layers(tmp_path, data):
    layer = apply(tmp_path, data)
    assert layer.names() == set()
    assert layer.applied.implicit_dirs == (b".",)
    assert layer.applied.entries == 0

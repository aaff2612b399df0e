"""image verify: what it prints, its exit status, and what it takes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support.command import Cli
from tests.support.images import docker_archive
from tests.support.tars import file, tar
from unionfs.digest import Digest

ONE = tar(file("a", b"1"), file("b", b"2"))
TWO = tar(file("c", b"3"))


@pytest.fixture
def own(tmp_path: Path) -> Cli:
    """A store with the images ``one`` and ``two``, the second with a layer more."""
    cli = Cli(tmp_path / "store")
    for name, layers in (("one", [ONE]), ("two", [ONE, TWO])):
        (tmp_path / name).write_bytes(docker_archive(layers))
        cli("image", "import", f"docker-archive:{tmp_path}/{name}", "--name", name)
    return cli


def tree(own: Cli, data: bytes) -> Path:
    return own.root / "layers/sha256" / Digest.of(data).hex / "diff"


def test_differences_are_listed_by_layer_and_path(own: Cli) -> None:
    assert own("image", "verify") == "2 layers as imported\n"
    assert own("image", "verify", "one") == "1 layer as imported\n"
    for name in ("a", "b"):
        st = (tree(own, ONE) / name).stat()
        (tree(own, ONE) / name).write_bytes(b"X")
        os.utime(tree(own, ONE) / name, ns=(st.st_atime_ns, st.st_mtime_ns))
    (tree(own, TWO) / "c").chmod(0o600)
    lines = own("image", "verify", "one", status=1).splitlines()
    assert lines == [f"layer {Digest.of(ONE)}: {name}: has other content" for name in "ab"]
    found = own.run("--json", "image", "verify")
    assert found.returncode == 1
    assert '"layers": 2' in found.stdout
    assert found.stdout.count('"says"') == 3
    assert own.fails("image", "verify", "none") == "no such image: none"


def test_a_commits_layer_is_verified_too(cli: Cli) -> None:
    cli("create", "tiny", "--name", "one")
    root = Path(cli("mount", "one").strip())
    (root / "new").write_bytes(random.Random(1).randbytes(100_000))
    os.link(root / "new", root / "link")
    cli("umount", "one")
    cli("commit", "one", "more")
    try:
        assert cli("image", "verify", "more") == "2 layers as imported\n"
    finally:
        cli("rm", "one")
        cli("image", "rm", "more")

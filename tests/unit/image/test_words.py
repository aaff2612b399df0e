"""The words that say what to import: sources, platforms, and the names that come of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from unionfs.image.clock import BadEpochError, timestamp
from unionfs.image.naming import source_names
from unionfs.image.platform import BadPlatformError, Platform, host, parse_platform
from unionfs.image.source import BadSourceError, Kind, NoSuchSourceError, Source, parse


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    (tmp_path / "a:b").mkdir()
    (tmp_path / "oci").mkdir()
    (tmp_path / "docker.tar").touch()


@pytest.mark.parametrize(
    ("text", "kind", "path", "reference"),
    [
        ("oci:dir", Kind.OCI, "dir", None),
        ("oci:dir:", Kind.OCI, "dir", None),
        ("oci:dir:x", Kind.OCI, "dir", "x"),
        ("oci:dir:registry.example:5000/a/b:c", Kind.OCI, "dir", "registry.example:5000/a/b:c"),
        ("oci:a:b", Kind.OCI, "a:b", None),
        ("oci:a:b:c", Kind.OCI, "a:b", "c"),
        ("oci-archive:docker.tar:x", Kind.OCI_ARCHIVE, "docker.tar", "x"),
        ("docker-archive:docker.tar:x:1", Kind.DOCKER_ARCHIVE, "docker.tar", "x:1"),
        ("rootfs:a:b", Kind.ROOTFS, "a:b", None),
        ("dir", None, "dir", None),
        ("dir:x", None, "dir", "x"),
        ("./oci", None, "./oci", None),
        ("oci", None, "oci", None),
    ],
)
def test_sources(text: str, kind: Kind | None, path: str, reference: str | None):
    assert parse(text) == Source(kind, path, reference)


@pytest.mark.parametrize("text", ["oci:", "rootfs:", ""])
def test_sources_without_a_path(text: str):
    with pytest.raises(BadSourceError, match="no path"):
        parse(text)


@pytest.mark.parametrize("text", ["nothing", "oci:nothing:x", "rootfs:dir:x", "docker://debian"])
def test_sources_that_are_not_there(text: str):
    with pytest.raises(NoSuchSourceError):
        parse(text)


@pytest.mark.parametrize(
    ("path", "called", "names"),
    [
        ("/x/Debian 12.tar.gz", [], ["debian-12:latest"]),
        ("/x/layout", ["latest"], ["layout:latest"]),
        ("/x/layout", ["1.0", "2.0"], ["layout:1.0", "layout:2.0"]),
        ("/x/layout", ["docker.io/library/debian:12", "12"], ["docker.io/library/debian:12"]),
        ("/x/layout", ["quay.example/a/b"], ["quay.example/a/b:latest"]),
        ("/x/layout", ["../.."], []),
        ("/x/...", [], []),
        ("/x/a/..", [], ["x:latest"]),
    ],
)
def test_names(path: str, called: list[str], names: list[str]):
    assert source_names(Source(None, path, None), called) == names


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("arm64", Platform("linux", "arm64")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
        ("aarch64", Platform("linux", "arm64")),
        ("linux/x86_64", Platform("linux", "amd64")),
    ],
)
def test_platforms(text: str, platform: Platform):
    assert parse_platform(text) == platform
    assert parse_platform(str(platform)) == platform


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/a b", "linux/\n"])
def test_words_that_are_no_platforms(text: str):
    with pytest.raises(BadPlatformError):
        parse_platform(text)


@pytest.mark.parametrize(
    ("wanted", "offered", "order"),
    [
        ("linux/arm64", ["linux/arm64/v8", "linux/arm64"], ["linux/arm64/v8", "linux/arm64"]),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], ["linux/amd64", "linux/amd64/v3"]),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v4"], ["linux/amd64"]),
        (
            "linux/arm/v7",
            ["linux/arm/v8", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7"],
            ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
        ),
        ("linux/amd64", ["windows/amd64", "linux/386"], []),
    ],
)
def test_which_platform_fits_best(wanted: str, offered: list[str], order: list[str]):
    want = parse_platform(wanted)
    ranks = {text: want.rank(parse_platform(text)) for text in offered}
    fitting = {text: rank for text, rank in ranks.items() if rank is not None}
    assert sorted(fitting, key=lambda text: fitting[text]) == order


def test_a_system_alone_is_meant_on_this_machine_s_processor():
    found = parse_platform("windows")
    assert (found.os, found.architecture, found.variant) == (
        "windows",
        host().architecture,
        host().variant,
    )


def test_this_machine_is_a_platform():
    assert host().rank(host()) == 0
    assert parse_platform(str(host())) == host()


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "9" * 20, "१"])
def test_a_source_date_epoch_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(BadEpochError):
        timestamp()

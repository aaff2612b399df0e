"""Podman's commands on containers, with this project's command as its mount program.

The tests say what users rely on, in the order of a container's life; what comes of images is in
``test_podman_images``.
"""

from __future__ import annotations

import os
import re

import pytest

from tests.support import engine_checks
from tests.support.engine_checks import TINY
from tests.support.engines import Engine
from unionfs.syscalls.mount import mounts_at

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

FOREVER = ("sleep", "1000")


@pytest.fixture
def web(engine: Engine, nothing_mounted):
    """A running container."""
    engine.podman("run", "-d", "--name", "web", TINY, *FOREVER)
    return "web"


def merged(engine: Engine, name: str) -> str:
    return engine.inspect("--type", "container", name)["GraphDriver"]["Data"]["MergedDir"]


def test_what_is_mounted_is_ours(engine: Engine, web):
    (entry,) = mounts_at(os.fsencode(merged(engine, web)))
    assert entry.kind == b"fuse.unionfs"
    information = engine.podman("info", "--format", "{{.Store.GraphOptions}}")
    assert re.search(r"Version:unionfs \d", information), information


def test_what_layers_hide_stays_hidden(engine: Engine, web):
    assert engine.sh(web, "cat /data/*e; ls /data").split() == [
        "one",
        "three",
        "one",
        "sub",
        "three",
    ]


def test_files_are_written_and_stay_through_a_restart(engine: Engine, web):
    engine.sh(
        web, "echo new >/data/new; echo more >>/data/one; rm /data/three; mv /data/sub /data/far"
    )
    engine.podman("restart", "--time", "0", web)
    assert engine.sh(web, "cat /data/one /data/new /data/far/deep").split() == [
        *("one", "more", "new", "sub/deep")
    ]
    assert engine.diff(web) == {
        *("C /data", "C /data/one", "A /data/new", "D /data/three"),
        *("D /data/sub", "A /data/far", "A /data/far/deep"),
    }


def test_diff_after_a_directory_was_made_anew(engine: Engine, web):
    """What it had before is gone, although the layers below still have it."""
    engine.sh(web, "rm -rf /data/sub; mkdir /data/sub; echo x >/data/sub/x")
    assert engine.diff(web) == {
        *("C /data", "C /data/sub", "D /data/sub/deep", "A /data/sub/x"),
    }


def test_cp_in_and_out(engine: Engine, web, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("from outside\n")
    engine.podman("cp", f"{tmp_path}/in", f"{web}:/data/got")
    assert engine.sh(web, "cat /data/got/file") == "from outside\n"
    engine.podman("cp", f"{web}:/data", f"{tmp_path}/out")
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")}
    assert names == {"one", "three", "sub", "sub/deep", "got", "got/file"}


def test_programs_that_install(engine: Engine, web):
    engine_checks.programs_that_install(engine, web)


def test_owners_modes_and_links(engine: Engine, web):
    engine.sh(
        web,
        "cd /data; chown 12:34 one; chmod 4711 one; ln one hard; ln -s one soft; touch -d @1 three",
    )
    said = engine.sh(
        web, "cd /data; stat -c '%n %u %g %a %h' one hard; stat -c '%Y' three; cat soft"
    )
    assert said.splitlines() == ["one 12 34 4711 2", "hard 12 34 4711 2", "1", "one"]


def test_an_overlay_volume(engine: Engine, tmp_path):
    """``-v src:dst:O``: changes are the container's own, and the directory stays as it is."""
    source = tmp_path / "a:b"
    source.mkdir()
    (source / "kept").write_text("kept\n")
    (source / "gone").touch()
    text = "cd /vol; cat kept; rm gone; echo new >kept; ls"
    source.rename(tmp_path / "plain")
    volume = f"{tmp_path}/plain:/vol:O"
    said = engine.podman("run", "--rm", "-v", volume, TINY, "sh", "-ec", text)
    assert said.split() == ["kept", "kept"]
    assert sorted(os.listdir(tmp_path / "plain")) == ["gone", "kept"]
    assert (tmp_path / "plain" / "kept").read_text() == "kept\n"
    assert engine.mounts() == []


def test_a_read_only_container(engine: Engine):
    engine_checks.a_read_only_container(engine)


def test_several_at_once(engine: Engine):
    engine_checks.several_at_once(engine)

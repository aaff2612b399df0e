"""What an image says its process is, what the user changes, and what is no such thing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from unionfs.container.process import (
    CommandNotExecutableError,
    CommandNotFoundError,
    ImageConfigError,
    NoCommandError,
    Overrides,
    Process,
    check_command,
    process_of,
    require_command,
)
from unionfs.container.rootfile import open_root
from unionfs.errors import UsageError

IMAGE = {
    "config": {
        "Entrypoint": ["/entry", "-x"],
        "Cmd": ["a", "b"],
        "Env": ["PATH=/p", "A=1=2", "EMPTY=", "=nameless"],
        "WorkingDir": "/work",
        "User": "alice",
    }
}


def test_the_image_alone() -> None:
    process = process_of(IMAGE, Overrides())
    assert process.args == ("/entry", "-x", "a", "b")
    assert process.env == {"PATH": "/p", "A": "1=2", "EMPTY": ""}
    assert (process.cwd, process.user) == ("/work", "alice")


def test_the_user_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "x")
    monkeypatch.delenv("NOT_OURS", raising=False)
    overrides = Overrides(("ls", "-l"), ("A=3", "OURS", "NOT_OURS"), "rel", "0:0")
    process = process_of(IMAGE, overrides)
    assert process.args == ("ls", "-l")
    assert process.env == {"PATH": "/p", "A": "3", "EMPTY": "", "OURS": "x"}
    assert (process.cwd, process.user) == ("/rel", "0:0")


@pytest.mark.parametrize(
    "config", [{}, {"config": None}, {"config": {}}, {"config": {"Env": None}}]
)
def test_an_image_that_says_nothing(config: dict[str, Any]) -> None:
    process = process_of(config, Overrides())
    assert process == Process((), {}, "/", "")
    with pytest.raises(NoCommandError):
        require_command(process)


@pytest.mark.parametrize(
    "fields",
    [
        {"Env": "A=1"},
        {"Env": ["A=1", 2]},
        {"Cmd": {"sh": 1}},
        {"Entrypoint": [["sh"]]},
        {"WorkingDir": 7},
        {"User": ["root"]},
        {"Cmd": ["a\0b"]},
        {"WorkingDir": "/a\0"},
    ],
)
def test_a_config_of_wrong_types_is_corrupt(fields: dict[str, Any]) -> None:
    with pytest.raises(ImageConfigError, match=next(iter(fields))):
        process_of({"config": fields}, Overrides())


def test_a_config_that_is_no_object_is_corrupt() -> None:
    with pytest.raises(ImageConfigError):
        process_of({"config": [1]}, Overrides())


@pytest.mark.parametrize("entry", ["=x", "", "A=\0"])
def test_a_bad_override_is_a_usage_error(entry: str) -> None:
    with pytest.raises(UsageError):
        process_of(IMAGE, Overrides(env=(entry,)))


def _check(root: Path, program: str, *, path: str = "/bin", cwd: str = "/") -> None:
    root_fd = open_root(str(root))
    try:
        check_command(root_fd, Process((program,), {}, cwd, ""), {"PATH": path})
    finally:
        os.close(root_fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/good").write_text("")
    (tmp_path / "bin/good").chmod(0o755)
    (tmp_path / "bin/plain").write_text("")
    (tmp_path / "bin/dir").mkdir()
    (tmp_path / "bin/link").symlink_to("/bin/good")
    (tmp_path / "bin/host").symlink_to(os.path.realpath("/bin/sh") + "-not-here")
    return tmp_path


@pytest.mark.parametrize("program", ["good", "/bin/good", "bin/good", "link"])
def test_programs_that_are_there(root: Path, program: str) -> None:
    _check(root, program)


def test_a_relative_program_counts_from_the_working_directory(root: Path) -> None:
    _check(root, "./good", cwd="/bin")
    _check(root, "good", path=":/nowhere", cwd="/bin")


@pytest.mark.parametrize("program", ["none", "/none", "dir", "/bin", "host", "/etc/hostname"])
def test_programs_that_are_not_there(root: Path, program: str) -> None:
    with pytest.raises(CommandNotFoundError) as caught:
        _check(root, program)
    assert caught.value.exit_status == 127


def test_a_program_that_cannot_be_executed(root: Path) -> None:
    with pytest.raises(CommandNotExecutableError) as caught:
        _check(root, "plain")
    assert caught.value.exit_status == 126

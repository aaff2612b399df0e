"""The manual page that ``make install`` makes: it says all that the parser takes, in good roff."""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterator

import pytest

from scripts.install import manual, words
from unionfs.cli import commands
from unionfs.cli.option_help import EXPLAINED


@pytest.fixture(scope="module")
def page() -> str:
    return manual.page(words.program(), seconds=86_400)


def leaves(parser: argparse.ArgumentParser, *path: str) -> Iterator[tuple[str, set[str]]]:
    """Yield every command that the parser has, with its flags."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from leaves(below, *path, name)
            return
    yield " ".join(path), {flag for action in parser._actions for flag in action.option_strings}


def shown(page: str, *words: str) -> str:
    """Return *page* as a terminal shows it."""
    done = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", "width=100", *words],
        input=page, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return "".join(c for i, c in enumerate(done.stdout) if "\b" not in done.stdout[i : i + 2])


def test_it_is_clean(page: str) -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style"], input=page, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_it_has_every_command_and_option(page: str) -> None:
    text = shown(page)
    for path, flags in leaves(commands.build()):
        if path == "ps":
            assert "Also called ps." in text
            continue
        section = re.split(r"\n(?= {0,3}\S)", text.partition(f"\n   {path}\n")[2])[0]
        assert f"unionfs {path}" in section
        for flag in flags:
            assert flag in section or f" {flag}" in text.partition("COMMANDS")[0], (path, flag)


def test_it_has_what_else_a_page_has(page: str) -> None:
    text = shown(page)
    for words_of_it in ("1970-01-02", "lowerdir=DIR[:DIR...]", "spin=MICROSECONDS", "EXIT STATUS"):
        assert words_of_it in text
    assert "/var/lib/unionfs" in text and "unionfs image import docker-archive:" in text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (r"a\b", r"a\b"),
        (".dot", ".dot"),
        ("'q", "'q"),
        ('"x" -y', '"x" -y'),
        ("a…", "a..."),
        ("é", "é"),
    ],
)
def test_text_is_printed_as_it_is(text: str, printed: str) -> None:
    page = f".TH X 1 2026-01-01\n.SH NAME\nx \\- y\n.SH Z\n{manual.roff(text)}\n"
    assert printed in shown(page)


def test_every_mount_option_has_its_meaning(page: str) -> None:
    text = " ".join(shown(page).partition("MOUNT OPTIONS")[2].partition("EXIT STATUS")[0].split())
    for line in EXPLAINED.replace("…", "...").splitlines():
        for part in line.strip().split("  ", maxsplit=1):
            assert part.strip() in text

"""What README.md and docs/architecture.md name is there: commands, functions, files, links."""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.house import PACKAGE, ROOMS, python_files
from unionfs.cli import commands, helper
from unionfs.cli.main import is_helper_form
from unionfs.options import parse_helper_options

REPO = Path(__file__).parents[2]
README = "README.md"
ARCHITECTURE = "docs/architecture.md"
USE = "docs/use.md"
BASE = {"errors", "digest", "syscalls"}  # every room from `union` on may import these

_CODE = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)")
_DOTTED = re.compile(r"\w+(?:\.\w+)+")
_OURS = re.compile(r"(?:unionfs|tests|scripts|docs)/[\w./]*")


def _text(name: str) -> str:
    return (REPO / name).read_text(encoding="utf-8")


def _prose(name: str) -> str:
    return _FENCE.sub("", _text(name))


# Commands: every line that a session types is parsed by the real parser.


def session_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every ``unionfs`` command typed in the console blocks of *text*."""
    for language, block in _FENCE.findall(text):
        typed = (line for line in block.splitlines() if line.startswith("$ "))
        for line in typed if language == "console" else ():
            lexer = shlex.shlex(line[2:], posix=True, punctuation_chars=";|&")
            lexer.whitespace_split = True
            lexer.commenters = "#"
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word.strip(";|&"):
                    words.append(word)
                    continue
                if words[:1] == [PACKAGE]:
                    yield words
                words = []


def parse(words: list[str]) -> None:
    """Parse *words* as the command would. Raises UsageError, RefusedError."""
    if not is_helper_form(words):
        commands.build().parse_args(words[1:])
        return
    call = helper.read_words(words[1:], as_mount=False)
    if call.answer is None:
        parse_helper_options(call.options, privileged=True)


def test_every_command_of_the_sessions_parses() -> None:
    for words in session_commands(_text(USE)):
        parse(words)
    typed = list(session_commands(_text(README)))
    for words in typed:
        parse(words)
    used = {words[1] for words in typed}
    assert {"image", "create", "mount", "run", "diff", "ls", "df", "umount", "rm", "-o"} <= used


@pytest.mark.parametrize(
    "line", ["unionfs comit web", "unionfs ls --jsn", "true; unionfs image", "unionfs -o ro x"]
)
def test_a_wrong_command_in_a_session_is_found(line: str) -> None:
    (words,) = session_commands(f"```console\n$ {line}\n```\n")
    with pytest.raises(Exception, match=r"invalid choice|unrecognized|required|no lower"):
        parse(words)


def named_commands(text: str) -> Iterator[list[str]]:
    """Yield the words after ``unionfs`` of every piece of inline code, up to the first that is
    an option or stands for something (capitals)."""
    for code in _CODE.findall(_FENCE.sub("", text)):
        first, *rest = code.split()
        if first == PACKAGE and rest:
            end = next((i for i, w in enumerate(rest) if not w.islower() or w[0] == "-"), len(rest))
            if end:
                yield rest[:end]


def exists_as_command(words: list[str]) -> bool:
    """Tell whether *words* begin with a command, or are a branch of commands."""
    parser = commands.build()
    for word in words:
        choices = next((a.choices for a in parser._actions if isinstance(a.choices, dict)), None)
        if choices is None:
            return True
        if word not in choices:
            return False
        parser = choices[word]
    return True


@pytest.mark.parametrize("document", [README, ARCHITECTURE, USE])
def test_every_command_in_the_text_exists(document: str) -> None:
    named = list(named_commands(_text(document)))
    assert named
    assert [words for words in named if not exists_as_command(words)] == []


def test_a_command_that_does_not_exist_is_found() -> None:
    named = list(named_commands("see `unionfs image paint IMAGE` and `unionfs image rm IMAGE…`"))
    assert [exists_as_command(words) for words in named] == [False, True]


# Names: every dotted name that begins with a room is looked up in the source.


def _names_of(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _attributes(node: ast.ClassDef) -> Iterator[str]:
    yield from _names_of(node.body)
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            yield inner.attr


@cache
def source_names() -> frozenset[str]:
    """Return every module, function, class, constant and attribute, without ``unionfs.``."""
    found: set[str] = set()
    for path in python_files(str(REPO / PACKAGE)):
        module = os.path.relpath(path, REPO / PACKAGE).removesuffix(".py").replace(os.sep, ".")
        module = module.removesuffix(".__init__")
        tree = ast.parse(Path(path).read_bytes(), path)
        found |= {module, *(f"{module}.{name}" for name in _names_of(tree.body))}
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found |= {f"{module}.{node.name}.{name}" for name in _attributes(node)}
                found |= {f"{node.name}.{name}" for name in _attributes(node)}
    return frozenset(found)


def wrong_names(text: str) -> list[str]:
    """Return the names and paths in the inline code of *text* that do not exist."""
    wrong = []
    for code in _CODE.findall(text):
        if _OURS.fullmatch(code):
            exists = (REPO / code).exists()
        elif _DOTTED.fullmatch(code) and (code.split(".")[0] in ROOMS or code[0].isupper()):
            exists = code in source_names()
        else:
            continue
        if not exists:
            wrong.append(code)
    return wrong


@pytest.mark.parametrize("document", [README, ARCHITECTURE])
def test_every_name_in_the_text_exists(document: str) -> None:
    assert wrong_names(_prose(document)) == []


def test_wrong_names_are_found() -> None:
    right = "`union.tree.Tree.load` `Node.attr` `daemon.client` `unionfs/cli/` `os.stat`"
    assert wrong_names(right) == []
    wrong = ["union.tree.Tree.lode", "Node.atr", "daemon.klient", "unionfs/kli/", "upper.x.y"]
    assert wrong_names(" ".join(f"`{name}`" for name in wrong)) == wrong


# The table of rooms says what the checker of imports holds.


def table_of_rooms() -> dict[str, set[str] | None]:
    """Return what the document lets each room import; None stands for everything."""
    rooms: dict[str, set[str] | None] = {}
    for line in _text(ARCHITECTURE).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].strip("`") in ROOMS:
            listed = None if cells[2] == "all of them" else set(_CODE.findall(cells[2]))
            rooms[cells[0].strip("`")] = listed
    return rooms


def test_the_table_of_rooms_is_the_one_that_is_checked() -> None:
    present = {room for room in ROOMS if (REPO / PACKAGE / room).is_dir()}
    present |= {room for room in ROOMS if (REPO / PACKAGE / f"{room}.py").is_file()}
    written = table_of_rooms()
    assert list(written) == [room for room in ROOMS if room in present and "__" not in room]
    order = list(written)
    for room, listed in written.items():
        base = BASE if order.index(room) >= order.index("union") else {"errors"}
        allowed = {other for other in ROOMS[room] if other.partition(".")[0] in present}
        assert listed is None or listed | base == allowed | base, room


# Links.


@pytest.mark.parametrize("document", [README, ARCHITECTURE, USE])
def test_relative_links_resolve(document: str) -> None:
    targets = [link for link in _LINK.findall(_prose(document)) if "://" not in link]
    assert targets
    here = (REPO / document).parent
    assert [target for target in targets if not (here / target).exists()] == []

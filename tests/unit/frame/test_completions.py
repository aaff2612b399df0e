"""The completions that ``make install`` makes, asked as the shells ask them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from scripts.install import completions, words
from tests.unit.frame.test_manual import leaves
from unionfs.cli import commands

IMAGES = [{"id": "sha256:00", "names": ["hello:latest", "localhost:5000/help:2"], "containers": []}]
CONTAINERS = [{"id": "00", "name": "web", "image": "hello:latest", "mounts": [{"target": "/m"}]}]
LISTINGS = f"""\
#!/bin/sh
echo "$*" >> "$CALLS"
case $* in
*'image ls --json') echo '{json.dumps(IMAGES, indent=2)}' ;;
*'ls --json') echo '{json.dumps(CONTAINERS, indent=2)}' ;;
*'layer ls -q') echo 0123456789ab ;;
esac
"""
COMMANDS = {name.split()[0] for name, _ in leaves(commands.build())}
DIRECTORIES = {"one", "two words"}


class Shells:
    """A place with the three completions, a ``unionfs`` that lists, and some directories."""

    def __init__(self, place: Path) -> None:
        self.place = place
        program = words.program()
        for shell in ("bash", "zsh", "fish"):
            (place / shell).write_text(getattr(completions, shell)(program))
        (place / "zsh").rename(place / "_unionfs")
        (place / "bin").mkdir()
        (place / "bin" / "unionfs").write_text(LISTINGS)
        (place / "bin" / "unionfs").chmod(0o755)
        (place / "here").mkdir()
        for name in DIRECTORIES:
            (place / "here" / name).mkdir()
        (place / "here" / "file.tar").touch()

    def run(self, *command: str, **variables: str) -> str:
        (self.place / "calls").unlink(missing_ok=True)
        environment = {
            "PATH": f"{self.place}/bin:{os.environ['PATH']}",
            "HOME": str(self.place),
            "CALLS": str(self.place / "calls"),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            command, cwd=self.place / "here", env=environment | variables, text=True,
            capture_output=True, timeout=30,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def bash(self, line: str) -> set[str]:
        # compopt works only below readline, so it says here what it would do.
        script = f"""
            source ../bash
            compopt() {{ echo "$@"; }}
            COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}
            COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
            _unionfs
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        return set(self.run("bash", "-u", "-c", script).splitlines()) - {""}

    def fish(self, line: str) -> set[str]:
        script = f"source ../fish; complete -C {shlex.quote(line)}"
        return {row.split("\t")[0] for row in self.run("fish", "-N", "-c", script).splitlines()}


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> Shells:
    return Shells(tmp_path_factory.mktemp("shells"))


ASKED = [
    ("unionfs ", COMMANDS),
    ("unionfs im", {"image"}),
    ("unionfs image re", {"report"}),
    ("unionfs --json image ins", {"inspect"}),
    ("unionfs run --runtime ", {"crun", "runc", "bubblewrap"}),
    ("unionfs image export --compression z", {"zstd"}),
    ("unionfs image rm ", {"hello:latest", "localhost:5000/help:2"}),
    ("unionfs image rm hello:latest loc", {"localhost:5000/help:2"}),
    ("unionfs inspect ", {"web"}),
    ("unionfs inspect web ", set()),
    ("unionfs run h", {"hello:latest"}),
    ("unionfs mount --image hel", {"hello:latest"}),
    ("unionfs layer inspect 01", {"0123456789ab"}),
    ("unionfs create --name image ", {"hello:latest", "localhost:5000/help:2"}),
]


@pytest.mark.parametrize(("line", "answer"), ASKED)
def test_bash(shells: Shells, line: str, answer: set[str]) -> None:
    assert shells.bash(line) == answer


@pytest.mark.parametrize(("line", "answer"), [case for case in ASKED if case[1]])
def test_fish(shells: Shells, line: str, answer: set[str]) -> None:
    assert shells.fish(line) == answer


def test_bash_takes_the_part_after_a_colon(shells: Shells) -> None:
    assert shells.bash("unionfs create hello:la") == {"latest"}
    assert shells.bash("unionfs create localhost:5000/he") == {"5000/help:2"}


def test_every_option_of_every_command(shells: Shells) -> None:
    zsh = (shells.place / "_unionfs").read_text()
    for path, flags in leaves(commands.build()):
        assert shells.bash(f"unionfs {path} -") == flags
        assert path == "ps" or f"\n__unionfs_{path.replace(' ', '_')}() {{" in zsh


def test_a_store_on_the_line_is_asked(shells: Shells) -> None:
    for shell in (shells.bash, shells.fish):
        assert shell("unionfs --root /a/b rm ") == {"web"}
        assert (shells.place / "calls").read_text() == "--root /a/b ls --json\n"


def test_files_and_directories(shells: Shells) -> None:
    assert shells.bash("unionfs image import f") == {"-o default"}
    assert shells.bash("unionfs umount w") == {"-o plusdirs", "web"}
    assert shells.fish("unionfs image import f") == {"file.tar"}
    assert shells.fish("unionfs bundle web ") >= {f"{name}/" for name in DIRECTORIES}


# zsh completes in interactive shells only, so one is started behind a terminal of its own. A name
# that is inserted, and a list that is shown, are waited for in what that terminal prints.
ZSH = """
    zmodload zsh/zpty
    zpty shell zsh -f -i
    zpty -w shell "PS1=; fpath=(${PWD:h} \\$fpath); autoload -U compinit; compinit -u -D; cd $PWD"
    zpty -w -n shell "$1"$'\\t\\t'
    zpty -r shell printed "*$2*"
    zpty -d shell
"""


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("unionfs image wa", "waste"),
        ("unionfs image ", "list what an image ships"),
        ("unionfs --root /a/b create h", "ello:latest"),
        ("unionfs run --runtime=bub", "blewrap"),
    ],
)
def test_zsh(shells: Shells, line: str, shown: str) -> None:
    shells.run("zsh", "-f", "-c", ZSH, "zsh", line, shown)
    if "--root" in line:
        assert "--root /a/b image ls --json" in (shells.place / "calls").read_text()

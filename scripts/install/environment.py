"""The private environment of the installed program: a Python, the package, what it depends on.

Everything is taken from the environment in which the program was built and tested, so that nothing
is fetched, and what is installed is what was tried. Its layout is that of a virtual environment
(PEP 405), in which no file names the place where it is made: that may be a stage (DESTDIR).
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from scripts.install.errors import InstallError

_REPO = Path(__file__).parents[2]
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_CLIENT = "unionfs"  # the command that setup.py made, which runs _PROGRAM for most
_PROGRAM = "unionfs-python"
_SKIPPED = shutil.ignore_patterns("__pycache__", "*.c", "*.h")
_LAUNCHER = """\
#!{python} -I
import sys

from unionfs.cli.main import entry

sys.exit(entry())
"""


def make(place: Path, home: str) -> None:
    """Make the environment in the new directory *place*; it will be used at the path *home*.

    Raises InstallError where there is no Python that all users can reach.
    """
    python = reachable_python()
    libraries = place / "lib" / _VERSION / "site-packages"
    libraries.mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "bin" / "python").symlink_to(python)
    (place / "pyvenv.cfg").write_text(
        f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\n"
        f"version = {sys.version_info.major}.{sys.version_info.minor}\n"
    )
    shutil.copytree(_REPO / "unionfs", libraries / "unionfs", ignore=_SKIPPED)
    for name in sorted(_needed("unionfs")):
        _copy(importlib.metadata.distribution(name), libraries)
    _make_commands(place / "bin", f"{home}/bin/python")
    _compile(python, place, home)
    _open_to_all(place)


def _make_commands(folder: Path, python: str) -> None:
    """Write the program for *python*, and before it the client in C, if there is one here."""
    client = Path(sysconfig.get_path("scripts"), _CLIENT)
    compiled = client.is_file() and client.read_bytes().startswith(b"\x7fELF")
    program = folder / (_PROGRAM if compiled else _CLIENT)
    program.write_text(_LAUNCHER.format(python=python))
    program.chmod(0o755)
    if compiled:
        shutil.copy(client, folder / _CLIENT)


def reachable_python() -> str:
    """Return the path of a Python like this one that every user may run.

    The one that made this environment, if it does not lie in somebody's home; else the system's of
    the same version, with the same form of extensions. Raises InstallError.
    """
    mine = os.path.realpath(sys.executable)
    for candidate in (mine, f"/usr/bin/{_VERSION}", f"/usr/local/bin/{_VERSION}"):
        if os.path.exists(candidate) and _reachable(candidate) and _is_like_this(candidate):
            return candidate
    raise InstallError(
        f"{mine} is not open to all users, and there is no other {_VERSION} in /usr/bin: name one "
        "as make install PYTHON=/usr/bin/python3"
    )


def _reachable(path: str) -> bool:
    resolved = Path(os.path.realpath(path))
    return all(at.stat().st_mode & 0o001 for at in (resolved, *resolved.parents))


def _is_like_this(python: str) -> bool:
    """Return whether extensions made for this Python are made for that one."""
    ask = "import sysconfig; print(sysconfig.get_config_var('SOABI'))"
    done = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == sysconfig.get_config_var("SOABI")


def _needed(name: str) -> set[str]:
    """Return the names of all distributions that *name* needs here."""
    found: set[tuple[str, str]] = set()
    left = [(name, "")]
    while left:
        for wanted in _requirements(*left.pop()):
            if wanted not in found:
                found.add(wanted)
                left.append(wanted)
    return {wanted for wanted, _ in found}


def _requirements(name: str, extra: str) -> Iterator[tuple[str, str]]:
    """Yield what *name* needs here with its *extra*: names, once more with each extra of theirs."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for line in importlib.metadata.requires(name) or ():
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
            yield from ((canonicalize_name(wanted.name), one) for one in ("", *wanted.extras))


def _copy(distribution: importlib.metadata.Distribution, libraries: Path) -> None:
    """Copy what the distribution brought into the libraries; its commands stay away."""
    for file in distribution.files or ():
        if file.parts[0] == ".." or "__pycache__" in file.parts or file.name == "direct_url.json":
            continue
        target = libraries / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(distribution.locate_file(file)), target)


def _compile(python: str, place: Path, home: str) -> None:
    """Compile all modules, as files of *home*: nobody else could write the caches later."""
    words = [python, "-I", "-m", "compileall", "-q", "-j0", "-s", str(place), "-p", home]
    done = subprocess.run([*words, str(place / "lib")], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"compiling the modules failed: {done.stdout}{done.stderr}")


def _open_to_all(place: Path) -> None:
    """Let everybody read *place*, whatever the umask of who installs it."""
    for path in _below(place):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)


def _below(place: Path) -> Iterator[Path]:
    yield place
    yield from place.rglob("*")

"""What is done inside the container: whatever the image has the programs for.

Each piece of work leaves a trace that the other container is then asked about. Whether an image
can do it is seen from outside, at the mount point, where nothing of the image needs to run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scripts.demo.narrate import Narrator

_SOURCE = """#include <stdio.h>
int main(void) { puts("compiled and run in a union"); }
"""


@dataclass(frozen=True, slots=True)
class Trace:
    """A path (from the image's root) that now is, or is no longer, in the changed container."""

    path: str
    is_there: bool


@dataclass(frozen=True, slots=True)
class Container:
    """A mounted container: the name that commands take, and where it is mounted."""

    name: str
    mount_point: str

    def has(self, path: str) -> bool:
        """Tell whether *path* is in it, be it a link to nowhere."""
        return os.path.lexists(os.path.join(self.mount_point, path))

    def program(self, name: str) -> bool:
        """Tell whether it holds a program of that name."""
        return any(self.has(f"{top}{name}") for top in ("usr/bin/", "bin/", "usr/local/bin/"))


Work = Callable[[Narrator, Container], Sequence[Trace]]


def do_all(narrator: Narrator, container: Container) -> list[Trace]:
    """Do every piece of work that the image can do; return the traces."""
    if not container.program("sh"):
        narrator.say("This image has no shell, so we work on its files from outside.")
        return [*_from_outside(narrator, container)]
    traces: list[Trace] = []
    for work in (_edit, _compile, _remove_package, _delete, _rename):
        traces += work(narrator, container)
    return traces


def _inside(narrator: Narrator, container: Container, *words: str) -> str:
    return narrator.run("unionfs", "run", container.name, "--", *words)


def _from_outside(narrator: Narrator, container: Container) -> Sequence[Trace]:
    narrator.run("mkdir", os.path.join(container.mount_point, "made-from-outside"))
    return [Trace("made-from-outside", is_there=True)]


def _edit(narrator: Narrator, container: Container) -> Sequence[Trace]:
    narrator.say("Write a new file, and append to one of the image's:")
    _inside(narrator, container, "sh", "-c", "echo I was here > /note; cat /note")
    if container.has("etc/passwd"):
        line = "guest:x:4711:4711::/:/bin/sh"
        _inside(
            narrator, container, "sh", "-c", f"echo {line} >> /etc/passwd; tail -n 2 /etc/passwd"
        )
    return [Trace("note", is_there=True)]


def _compile(narrator: Narrator, container: Container) -> Sequence[Trace]:
    compiler = "gcc" if container.program("gcc") else "cc"
    if not container.program(compiler):
        return []
    check = f"echo 'int main(void) {{ return 0; }}' | {compiler} -x c -o /dev/null -"
    if narrator.ask("unionfs", "run", container.name, "--", "sh", "-c", check).returncode:
        narrator.say(
            f"The image has a {compiler}, which compiles nothing: parts of it are missing."
        )
        return []
    narrator.say(
        "The image has a C compiler. A program, put there from outside, is compiled and run:"
    )
    with open(os.path.join(container.mount_point, "hello.c"), "x", encoding="ascii") as file:
        file.write(_SOURCE)
    _inside(narrator, container, "cat", "/hello.c")
    script = f"{compiler} -o /hello /hello.c && /hello"
    said = _inside(narrator, container, "sh", "-c", script)
    narrator.expect("compiled and run" in said, "the compiled program did not say its line")
    return [Trace("hello", is_there=True)]


def _remove_package(narrator: Narrator, container: Container) -> Sequence[Trace]:
    package = _spare_package(narrator, container) if container.program("dpkg") else None
    if package is None:
        return []
    narrator.say(f"Uninstall a package with dpkg, which renames and deletes a lot: {package}.")
    _inside(narrator, container, "dpkg", "--purge", package)
    gone = narrator.ask("unionfs", "run", container.name, "--", "dpkg", "--status", package)
    narrator.expect(gone.returncode != 0, f"dpkg still knows {package} after purging it")
    return []


def _spare_package(narrator: Narrator, container: Container) -> str | None:
    """Return a package that nothing else needs; dpkg is asked to pretend."""
    run = ("unionfs", "run", container.name, "--")
    query = "${Package} ${Essential} ${Priority}\n"
    listed = narrator.ask(*run, "dpkg-query", "--show", "--showformat", query)
    lines = [line.split() for line in listed.stdout.splitlines()]
    spare = [line[0] for line in lines if line[1:] == ["no", "optional"]]
    spare.sort(key=lambda name: name != "hello")
    for name in spare[:8]:
        if narrator.ask(*run, "dpkg", "--simulate", "--purge", name).returncode == 0:
            return name
    return None


def _delete(narrator: Narrator, container: Container) -> Sequence[Trace]:
    target = _first(container, "usr/share/doc", "usr/share/man", "usr/share")
    if target is None or not container.program("rm"):
        return []
    narrator.say("Delete a directory that the image's layers hold. They keep it; a mark hides it.")
    _inside(narrator, container, "rm", "-rf", f"/{target}")
    return [Trace(target, is_there=False)]


def _rename(narrator: Narrator, container: Container) -> Sequence[Trace]:
    target = _first(container, "etc/skel", "etc/init.d", "home", "mnt")
    if target is None or not container.program("mv"):
        return []
    narrator.say(
        """Rename a directory of the image. Nothing in it is copied: the new name carries a
        pointer to the old one. (Many union filesystems refuse this with EXDEV.)"""
    )
    _inside(narrator, container, "mv", f"/{target}", f"/{target}.renamed")
    return [Trace(target, is_there=False), Trace(f"{target}.renamed", is_there=True)]


def _first(container: Container, *paths: str) -> str | None:
    return next((path for path in paths if container.has(path)), None)

"""The steps of the workload, in the order of a container's life. Each is one command of Podman's.

A later step works on what an earlier one left in the same store, and the last ones remove it all,
so that the next run finds the store as the first did.
"""

from __future__ import annotations

from dataclasses import dataclass

NAME = "localhost/bench:1"
_BUILT, _COMMITTED, _WORK = "localhost/built:1", "localhost/committed:1", "work"
_COMPILES = 10
# Its status is 1 where a file changed meanwhile: the root does, where Podman makes what it binds
_WALK = "tar --one-file-system -cf /dev/null / || [ $? = 1 ]"
_CHANGE = """
mkdir /unpacked; tar -xf /files.tar -C /unpacked
cp -a /etc /etc-before; chmod -R g+w /etc; rm -rf /home; mkdir /home; echo new >/home/new
"""
_BUILD = f"""
mkdir /build; cd /build; tar -xf /files.tar; ls -lR >listing
command -v gcc || exit 0
n=0; while [ $n -lt {_COMPILES} ]; do n=$((n + 1))
printf '#include <stdio.h>\\n#include <stdlib.h>\\n#include <pthread.h>\\n#include <math.h>\\n
int main(void) {{ puts("ok"); return 0; }}\\n' >a$n.c; gcc -O1 -o a$n a$n.c; ./a$n; done
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the table, and the words for podman; ``{context}`` is a directory with a tar."""

    name: str
    words: tuple[str, ...]

    def command(self, context: str) -> list[str]:
        """Return the words with *context* in its places."""
        return [word.replace("{context}", context) for word in self.words]


def _run(*words: str, options: tuple[str, ...] = ("--rm",)) -> tuple[str, ...]:
    return ("run", *options, NAME, *words)


CONTEXT = {
    "Containerfile": f"FROM {NAME}\nCOPY files.tar script /\nRUN sh -eu /script && rm /files.tar\n",
    "script": _BUILD,
}
STEPS = (
    Step("run-true", _run("true")),
    Step("run-walk", _run("sh", "-c", _WALK)),
    Step(
        "run-untar-chmod-rm",
        _run(
            *("sh", "-euc", _CHANGE),
            options=("--name", _WORK, "-v", "{context}/files.tar:/files.tar:ro"),
        ),
    ),
    Step("diff", ("diff", _WORK)),
    Step("commit", ("commit", "--quiet", _WORK, _COMMITTED)),
    Step("run-what-was-committed", ("run", "--rm", _COMMITTED, "ls", "/unpacked")),
    Step("rm", ("rm", _WORK)),
    Step(
        "build-untar-compile",
        ("build", "--quiet", "--no-cache", "--network", "none", "-t", _BUILT, "{context}"),
    ),
    Step("rmi", ("rmi", _COMMITTED, _BUILT)),
)

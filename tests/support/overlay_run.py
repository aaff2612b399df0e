"""Runs examples of the property tests (``overlay_example``, ``overlay_alone``), and says how to
repeat one.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence

from tests.support import kernel, parity
from tests.support.arena import make_arena
from tests.support.mounts import KERNEL_OPTIONS, SessionMount, Spawner
from tests.support.ops import Op
from tests.support.overlay_alone import Alone
from tests.support.overlay_example import Example, Mounter
from tests.support.stacks import IN_NAMESPACE, Stack

OPTIONS = None if IN_NAMESPACE else KERNEL_OPTIONS


def run(
    folder: bytes,
    stack: Stack,
    sequence: Sequence[Op],
    mount_union: Mounter,
    rows: Sequence[parity.Row],
    *,
    say: Callable[[str], None] = print,
    options: bytes | None = OPTIONS,
) -> list[parity.Row]:
    """Run one example in *folder*, clean up, and return the known differences that were met.

    *options* are those of the kernel's overlayfs; None: it is left out.

    Raises Mismatch, after saying how to repeat it.
    """
    os.umask(0o022)
    if options is None:
        example: Example = Alone(folder, stack, mount_union, rows)
    else:
        example = Example(folder, stack, mount_union, rows, options)
    try:
        with example:
            example.run(sequence)
            return example.used
    except BaseException:
        say(program(stack, example.done, options))
        raise
    finally:
        subprocess.run(["rm", "-rf", "--", folder], check=True)


def program(stack: Stack, sequence: Sequence[Op], options: bytes | None = OPTIONS) -> str:
    """Return a program that does one example by itself: for people, from the project's root."""
    layers = "\n".join(f"    [{', '.join(map(repr, layer))}]," for layer in stack)
    steps = "\n".join(f"    {op!r}," for op in sequence)
    inside = "-m tests.support.userns 300000 env UNIONFS_TEST_USERNS=1 python " * IN_NAMESPACE
    return (
        f"python {inside}- <<'END'\n"
        "from tests.support.overlay_run import reproduce\n"
        "from tests.support.ops import Op\n"
        "from tests.support.stacks import *\n"
        f"reproduce([  # the bottom layer first\n{layers}\n], [\n{steps}\n], {options!r})\nEND"
    )


def reproduce(stack: Stack, sequence: Sequence[Op], options: bytes | None = OPTIONS) -> None:
    """Run one example from scratch, in mounts that nobody else sees."""
    kernel.own_mount_namespace()
    with tempfile.TemporaryDirectory() as name:
        folder = os.fsencode(name)
        os.chmod(folder, 0o755)
        mounted = make_arena(folder)
        spawner = Spawner()
        try:
            run(
                folder + b"/x",
                stack,
                sequence,
                lambda layers, at: SessionMount(layers, at, spawner),
                parity.load(),
                say=lambda _program: None,
                options=options,
            )
            print("all answers agree")
        finally:
            spawner.close()
            if mounted:
                kernel.umount(folder)

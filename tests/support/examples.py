"""How many examples the property tests of mounts run, and how one is run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, note, settings

from tests.support import overlay_run, parity
from tests.support.ops import Op
from tests.support.overlay_example import Mounter
from tests.support.stacks import Stack

FULL = bool(os.environ.get("UNIONFS_TEST_FULL")) or os.environ.get("HYPOTHESIS_PROFILE") == "full"
COUNT = 1_000 if FULL else 25
LENGTH = 40 if FULL else 20
TIMEOUT = 36_000 if FULL else 600

common_settings = settings(
    max_examples=int(os.environ.get("UNIONFS_TEST_EXAMPLES", COUNT)),
    deadline=None,
    derandomize=not FULL,  # what `make test` says depends on the code alone; the full run explores
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.large_base_example,
        HealthCheck.data_too_large,
    ],
)
_number = itertools.count()


def run_example(
    arena: bytes,
    mount_union: Mounter,
    stack: Stack,
    ops: Sequence[Op],
    options: bytes | None = overlay_run.OPTIONS,
) -> None:
    """Run one example; a failing one is shown as a program to run by itself."""
    folder = arena + b"/x%d" % next(_number)
    overlay_run.run(folder, stack, ops, mount_union, parity.load(), say=note, options=options)

"""Random operations on files in an ordinary user's own mount: no namespace, nothing of root's.

The operations and the model are those of ``tests/mount/data/both/test_fsx.py``. Owners are as they
are on the disk, or beside the files; then no kernel checks permissions.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.examples import FULL, TIMEOUT
from tests.support.fsx.episode import Plan
from tests.support.ordinary import GID, UID, User, mounted

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

COUNT = 1_000_000 if FULL else 500  # operations of each kind of file
FEWER = 200_000 if FULL else 500  # of removed ones, and where owners are beside the files
LENGTH = 4_000 if FULL else 500  # of one mount
FILES = 2
RUN = """
import json, os, sys
from tests.support.fsx import episode
plan = episode.Plan(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), files=int(sys.argv[5]))
names = [[os.fsencode(f"{sys.argv[1]}/d/f{number}")] for number in range(plan.files)]
if plan.kind == "upper":
    for (name,), content in zip(names, plan.contents()):
        open(name, "wb").write(content)
child = episode.in_child(names, plan.contents(), plan.operations())
what = None if child.failure is None else f"{child.failure.what}, at {child.failure.at} of {plan}"
print(json.dumps([what, sum(child.answer["done"].values()), child.answer.get("digests")]))
"""
LOOK = """
import hashlib, json, sys
def digest(path):
    try:
        return hashlib.sha256(open(path, "rb").read()).hexdigest()
    except FileNotFoundError:
        return None
print(json.dumps([digest(path) for path in sys.argv[1:]]))
"""
_number = itertools.count()


def _make_place(user: User, plan: Plan) -> Path:
    """Make the user's layer, and what else a mount needs."""
    place = user.home / f"fsx{next(_number)}"
    for name in ("lower/d", "upper", "work", "merged"):
        (place / name).mkdir(parents=True)
    for number, content in enumerate(plan.contents() if plan.kind != "upper" else ()):
        (place / f"lower/d/f{number}").write_bytes(content)
        if plan.kind == "linked":
            os.link(place / f"lower/d/f{number}", place / f"lower/d/g{number}")
    subprocess.run(["chown", "-R", f"{UID}:{GID}", place], check=True)
    return place


def _episode(user: User, plan: Plan, options: str) -> int:
    """Run *plan*, and look again after another mount; return how many operations were performed."""
    place = _make_place(user, plan)
    words = (plan.kind, str(plan.seed), str(plan.count), str(plan.files))
    with mounted(user, place, options) as merged:
        what, done, digests = json.loads(user.script(RUN, merged, *words))
    assert what is None, what
    with mounted(user, place, options) as merged:
        paths = [merged / f"d/f{number}" for number in range(plan.files)]
        assert json.loads(user.script(LOOK, *paths)) == digests, plan
    subprocess.run(["rm", "-rf", "--", place], check=True)
    return int(done)


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("options", ["", ",xattr_permissions=2"], ids=["as it is", "kept aside"])
@pytest.mark.parametrize("kind", ["upper", "lower", "midway", "linked", "removed"])
def test_random_operations(user: User, kind: str, options: str) -> None:
    count = FEWER if options or kind in ("linked", "removed") else COUNT
    plans = [Plan(kind, 1 + n, LENGTH, files=FILES) for n in range(count // LENGTH)]
    assert sum(_episode(user, plan, options) for plan in plans) > count * 0.9

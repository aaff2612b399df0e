"""When the set-id bits of a file go: as on the local filesystem, whoever changes it how."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import pytest

from tests.support.examples import FULL
from tests.support.files import as_user, opened
from tests.support.mounts import UNION_OPTIONS
from tests.support.stacks import Dir, File, build_stack
from tests.support.stores import REPO

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

OWNER, OTHER, GROUP = 1000, 1001, 3000
NAMED = 300_000  # the first ID that has a name in a namespace of the tests
CHOWN, FOWNER, FSETID = 1 << 0, 1 << 3, 1 << 4  # capabilities(7)
CALLERS = {
    "owner": {"uid": OWNER, "gid": OWNER},
    "owner in the group": {"uid": OWNER, "gid": GROUP},
    "owner with the group": {"uid": OWNER, "gid": OWNER, "groups": (4, GROUP)},
    "other": {"uid": OTHER, "gid": OTHER},
    "other with the group": {"uid": OTHER, "gid": OTHER, "groups": (GROUP,)},
    "root": {"uid": 0, "gid": 0},
    "root without CAP_FSETID": {"uid": 0, "gid": 0, "capabilities": ~FSETID & 0xFFFFFFFF},
    "owner with CAP_FSETID": {"uid": OWNER, "gid": OWNER, "capabilities": FSETID},
    "other with CAP_FSETID": {"uid": OTHER, "gid": OTHER, "capabilities": FSETID},
    "other with CAP_CHOWN": {"uid": OTHER, "gid": OTHER, "capabilities": CHOWN},
    "other with CAP_CHOWN and CAP_FOWNER": {
        "uid": OTHER,
        "gid": OTHER,
        "capabilities": CHOWN | FOWNER,
    },
    "root with CAP_CHOWN only": {"uid": 0, "gid": 0, "capabilities": CHOWN},
}
MODES = (0o2666, 0o2676, 0o6666, 0o6777)


def _write(path: bytes) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.write(fd, b"new")


def _allocate(path: bytes) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.posix_fallocate(fd, 0, 20)


def _copy_range(path: bytes) -> None:
    with opened(path, os.O_RDWR) as fd:
        os.copy_file_range(fd, fd, 3, 0, 10)


def _take(path: bytes) -> None:
    os.chown(path, -1, os.getgid())


CHANGES = {
    "write": _write,
    "truncate": lambda path: os.truncate(path, 3),
    "extend": lambda path: os.truncate(path, 30),
    "open with O_TRUNC": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    "fallocate": _allocate,
    "copy_file_range": _copy_range,
    "take to the own group": _take,
    "take what is open": _take,
    "chmod": lambda path: os.chmod(path, os.stat(path).st_mode ^ 1),
}


BEFORE = {"take what is open": _write}  # by root, who takes no bit: the extension has it then


def _made(place: str) -> list[Dir | File]:
    files = [
        File(b"%b/%o" % (place.encode(), mode), mode=mode, uid=OWNER, gid=GROUP) for mode in MODES
    ]
    return [Dir(place.encode(), 0o777), *files]


KEPT = {"by the inode": (), "aside": (b"userxattr", b"xattr_permissions=2")}
TRIED = [
    (change, kept)
    for kept in KEPT
    for change in (CHANGES if FULL or not KEPT[kept] else ("write", "truncate"))
]


@pytest.mark.needs_extension
@pytest.mark.parametrize(("change", "kept"), TRIED)
def test_as_on_the_local_filesystem(scratch, union, change, kept):
    entries = [entry for caller in CALLERS for entry in _made(caller)]
    plain = build_stack(scratch + b"/plain", [entries]).lowers[0]
    layers = build_stack(scratch + b"/s", [entries])
    root = union(layers, options=(*UNION_OPTIONS, *KEPT[kept])).root
    os.chmod(scratch + b"/plain", 0o755)
    wrong = []
    for caller, how in CALLERS.items():
        for mode in MODES:
            name = b"/%b/%o" % (caller.encode(), mode)
            found = []
            for top in (plain, root):
                BEFORE.get(change, os.stat)(top + name)
                error = as_user(lambda: CHANGES[change](top + name), **how)  # noqa: B023
                found.append((error, oct(os.stat(top + name).st_mode)))
            if found[0] != found[1]:
                wrong.append((caller, oct(mode), *found))
    assert wrong == []


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        (0o6777, {"capabilities": FOWNER}),
        (0o2666, {"groups": (GROUP,)}),  # who keeps that bit, and so changes no mode
        (0o2666, {"capabilities": FSETID}),
    ],
)
def test_chown_to_the_same_by_others_who_may(scratch, union, mode, how):
    layers = build_stack(scratch + b"/s", [[File(b"f", mode=mode, uid=OWNER, gid=GROUP)]])
    plain = build_stack(scratch + b"/plain", [[File(b"f", mode=mode, uid=OWNER, gid=GROUP)]])
    os.chmod(scratch + b"/plain", 0o755)
    found = []
    for path in (plain.lowers[0] + b"/f", union(layers).root + b"/f"):
        was = os.stat(path).st_ctime_ns
        told = as_user(lambda: os.chown(path, -1, -1), uid=OTHER, gid=OTHER, **how)  # noqa: B023
        found.append((told, oct(os.stat(path).st_mode), os.stat(path).st_ctime_ns > was))
    assert found[1] == found[0] == (0, oct(0o100777 if mode & 1 else 0o102666), True)


@pytest.mark.needs_extension
@pytest.mark.parametrize("options", [*KEPT.values(), (b"record",)])  # that opens by handles
@pytest.mark.parametrize("mode", [0o4777, 0o2777])
@pytest.mark.parametrize("empties", [False, True])
def test_what_a_stranger_changed_does_not_run_with_its_owners_rights(
    scratch, union, options, mode, empties
):
    """Nobody looks at the file in between: the kernel would know its old mode."""
    layers = build_stack(scratch + b"/s", [[Dir(b"d")]])
    lower = layers.lowers[0] + b"/lower"
    shutil.copyfile(b"/usr/bin/id", lower)
    os.chmod(lower, mode)
    root = union(layers, options=(*UNION_OPTIONS, *options)).root
    shutil.copyfile(lower, root + b"/new")
    os.chmod(root + b"/new", mode)
    with open(lower, "rb") as file:
        content = file.read()

    def write_all(path: bytes) -> None:
        with opened(path, os.O_WRONLY) as fd:
            assert os.write(fd, content) == len(content)

    def change(path: bytes) -> None:
        if empties:
            os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        else:
            write_all(path)

    for path in (root + b"/lower", root + b"/new"):
        assert _runs_as(path) == (
            0 if mode & stat.S_ISUID else OTHER,
            0 if mode & stat.S_ISGID else OTHER,
        )
        assert as_user(lambda: change(path), uid=OTHER, gid=OTHER) == 0  # noqa: B023
        if empties:
            write_all(path)  # as root, who takes no set-id bits
        assert _runs_as(path) == (OTHER, OTHER)


def _runs_as(program: bytes) -> tuple[int, int]:
    """Return the effective user and group of the copy *program* of id(1), run by OTHER."""
    uid, gid = (
        subprocess.run(
            [program, option],
            user=OTHER,
            group=OTHER,
            extra_groups=(),
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        for option in ("-u", "-g")
    )
    return int(uid), int(gid)


def test_root_of_a_namespace_of_his_own_is_in_no_other_group(union, scratch):
    """His CAP_FSETID there is worth nothing with a group that the namespace has no name for."""
    layers = build_stack(scratch + b"/s", [[Dir(b"d", mode=0o2777, gid=GROUP)]])
    mounted = union(layers).root + b"/d"
    plain = scratch + b"/plain"
    os.mkdir(plain)
    os.chown(plain, 0, GROUP)
    os.chmod(plain, 0o2777)
    for place in (plain, mounted):
        path = place + b"/f"
        assert as_user(lambda: _made_by_stranger(path), uid=OTHER, gid=OTHER) == 0  # noqa: B023
        st = os.stat(path)
        assert (st.st_gid, st.st_mode & 0o7777) == (GROUP, 0o644), place


def _made_by_stranger(path: bytes) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o2644))
    assert os.stat(path).st_mode & 0o7777 == 0o2644
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", 'printf x >> "$0"']
    subprocess.run([*words, path], check=True)


@pytest.mark.parametrize("change", ["printf x >> $0", "truncate -s 5 $0"])
@pytest.mark.parametrize("owner", [(0, NAMED + 5), (NAMED + 3, 0), (NAMED + 3, NAMED + 5)])
def test_root_of_a_namespace_has_no_right_to_files_of_whom_it_does_not_name(
    union, scratch, owner, change
):
    """His CAP_FSETID counts where both owner and group have names there, and else not."""
    layers = build_stack(scratch + b"/s", [[Dir(b"d")]])
    plain, mounted = scratch + b"/plain", union(layers).root + b"/f"
    found = []
    for path in (plain, mounted):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.chown(path, *owner)
        os.chmod(path, 0o2666)
        words = [sys.executable, "-m", "tests.support.userns", str(NAMED), "sh", "-c", change, path]
        subprocess.run(words, check=True, cwd=REPO)
        found.append(oct(os.stat(path).st_mode))
    assert found[1] == found[0]

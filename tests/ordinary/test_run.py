"""``run`` by an ordinary user: his namespace, his mount in it, root and the others in the image."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ordinary import GID, UID, User
from tests.support.tinyroot import make_root

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

RUNTIMES = ("runc", "bubblewrap")


@pytest.fixture(scope="module")
def tiny(user: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image ``tiny``: root's, with a user alice and what only she may read."""
    root = tmp_path_factory.mktemp("tiny")
    make_root(str(root))
    secret = root / "home/alice/secret"
    secret.write_text("hers\n")
    secret.chmod(0o600)
    os.chown(secret, 1000, 1001)
    hidden = root / "etc/hidden"
    hidden.write_text("root's\n")
    hidden.chmod(0)
    os.mknod(root / "dev/null", 0o20666, os.makedev(1, 3))
    tar = user.home.parent / "tiny.tar"
    subprocess.run(["tar", "-C", root, "--numeric-owner", "-cf", tar, "."], check=True)
    tar.chmod(0o644)
    user.unionfs("image", "import", f"rootfs:{tar}", "--name", "tiny")
    yield "tiny"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_root_in_it(user: User, tiny: str, runtime: str) -> None:
    said = user.unionfs(
        "run", "--rm", "--runtime", runtime, tiny, "--", "sh", "-c",
        "id -u; cat /etc/hidden /home/alice/secret; ls -ln /home/alice/secret /etc/hidden",
    ).splitlines()  # fmt: skip
    assert said[:3] == ["0", "root's", "hers"]
    assert [line.split()[:4] for line in said[3:]] == [
        ["----------", "1", "0", "0"],
        ["-rw-------", "1", "1000", "1001"],
    ]


@pytest.fixture
def container(user: User, tiny: str) -> Iterator[str]:
    user.unionfs("create", tiny, "--name", "box")
    yield "box"
    user.unionfs("rm", "--force", "box")


def sh(user: User, container: str, text: str, *options: str, **more) -> list[str]:
    words = ("run", "--runtime", "runc", *options, container, "--", "sh", "-c", text)
    return user.unionfs(*words, **more).splitlines()


def test_others_in_it(user: User, container: str) -> None:
    """alice has her own rights and no more; what is hers stays hers, on the disk too."""
    said = sh(
        user, container,
        "id -u; cat secret; cat /etc/hidden 2>/dev/null || echo kept out; echo new > made; "
        "mkdir /tmp/hers; ls -ln made",
        "-u", "alice", "-w", "/home/alice",
    )  # fmt: skip
    assert said[:3] == ["1000", "hers", "kept out"]
    assert said[3].split()[:4] == ["-rw-r--r--", "1", "1000", "1001"]
    upper = user.home / ".local/share/unionfs/containers"
    (made,) = upper.glob("*/upper/home/alice/made")
    assert os.getxattr(made, "user.containers.override_stat") == b"1000:1001:0644:file"
    assert made.stat().st_uid == UID
    assert user.unionfs("diff", container).splitlines() == [
        "C /home", "C /home/alice", "A /home/alice/made", "C /tmp", "A /tmp/hers"
    ]  # fmt: skip
    assert sh(user, container, "cat /home/alice/made; mv /home/alice/made /etc/hidden; ls -ln /etc")


def test_what_it_changes_shows_outside(user: User, container: str) -> None:
    sh(
        user,
        container,
        "mkdir -p /srv/a; echo x >/srv/a/f; cat /etc/hidden >/srv/a/g; rm /bin/mv",
    )
    target = user.home / "outside"
    target.mkdir(exist_ok=True)
    os.chown(target, UID, GID)
    user.unionfs("mount", container, target)
    try:
        said = user.script(
            "import os, sys; os.chdir(sys.argv[1]); st = os.stat('srv/a/f')\n"
            "print(st.st_uid, open('srv/a/g').read(), os.path.exists('bin/mv'))",
            target,
        )
        assert said.split("\n")[:2] == ["0 root's", " False"]
        # The same container while it is mounted outside: the program runs in that mount.
        assert sh(user, container, "cat /srv/a/f") == ["x"]
    finally:
        user.unionfs("umount", container)


def test_the_status_and_errors_are_the_programs(user: User, tiny: str) -> None:
    assert sh(user, tiny, "exit 7", "--rm", status=7) == []
    done = user.run(user.python, "-m", "unionfs", "run", "--rm", tiny, "--", "no-such")
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "unionfs: error: no-such: no such program in the container\n"
    assert user.unionfs("ls", "-q") == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_it(user: User, tiny: str, number: int) -> None:
    text = "trap 'echo got it; exit 3' TERM INT; echo here; while :; do sleep 0.1; done"
    words = ("-m", "unionfs", "run", "--rm", "--runtime", "runc", tiny, "--", "sh", "-c", text)
    running = user.start(user.python, *words, stdout=subprocess.PIPE)
    assert running.stdout is not None and running.stdout.readline() == "here\n"
    running.send_signal(number)
    assert running.communicate(timeout=30)[0] == "got it\n"
    assert running.returncode == 3
    assert user.unionfs("ls", "-q") == ""


def test_nothing_of_it_shows_or_stays_outside(user: User, container: str) -> None:
    words = ("-m", "unionfs", "run", "--runtime", "runc", container, "--", "sh", "-c", "echo; cat")
    running = user.start(user.python, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert running.stdout is not None and running.stdout.readline() == "\n"
    assert "unionfs:" not in Path("/proc/self/mountinfo").read_text()
    for command in (("rm", container), ("rm", "--force", container), ("mount", container)):
        refused = user.run(user.python, "-m", "unionfs", *command)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("unionfs: error: "), refused
    running.communicate("", timeout=30)
    assert running.returncode == 0
    assert sh(user, container, "echo again") == ["again"]


def test_two_runs_share_the_mount(user: User, container: str) -> None:
    words = ("-m", "unionfs", "run", "--runtime", "runc", container, "--", "sh", "-c")
    text = "echo one > /tmp/one; echo; cat; cat /tmp/two"
    first = user.start(user.python, *words, text, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None and first.stdout.readline() == "\n"
    assert sh(user, container, "cat /tmp/one; echo two > /tmp/two; id -u") == ["one", "0"]
    assert first.communicate("", timeout=30)[0] == "two\n"
    assert sh(user, container, "cat /tmp/one /tmp/two") == ["one", "two"]


def test_without_subordinate_ids_all_is_roots(user: User, tiny: str) -> None:
    tools = user.home / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("runc", "fusermount3"):  # and no newuidmap
        found = shutil.which(name)
        assert found is not None
        if not (tools / name).exists():
            (tools / name).symlink_to(found)
    said = sh(
        user, tiny,
        "cat /etc/hidden /home/alice/secret; echo > /home/alice/new; "
        "ls -ln /home/alice; cat < /home/alice/secret > /etc/hidden; ls -ln /etc/hidden; "
        "echo more >> /home/alice/secret",
        "--name", "alone",
        env={"PATH": str(tools)},
    )  # fmt: skip
    try:
        assert said[:2] == ["root's", "hers"]
        assert {tuple(line.split()[2:4]) for line in said[3:]} == {("0", "0")}
        # The owner that could not be shown is still hers, of the copies as well.
        for line in sh(user, "alone", "ls -lnd /home/alice/secret /home/alice"):
            assert line.split()[2:4] == ["1000", "1001"]
    finally:
        user.unionfs("rm", "alone")

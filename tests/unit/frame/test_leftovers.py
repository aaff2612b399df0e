"""The watch over what tests leave behind sees real mounts and real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.support import leftovers, machine


def test_a_marked_process_is_found_and_cleared() -> None:
    mark = uuid.uuid4().hex
    sleeper = subprocess.Popen(["sleep", "60"], env={**os.environ, leftovers.MARK: mark})
    entry = f"{leftovers.MARK}={mark}".encode()
    try:
        while not leftovers.marked_processes(entry):
            time.sleep(0.01)  # execve(2) lets the parent go on before /proc shows the new words
        found = leftovers.wait_for_none(entry, seconds=0.1)
        assert found == [leftovers.Process(sleeper.pid, "sleep 60")]
        leftovers.clear([], found)
    finally:
        sleeper.kill()
        assert sleeper.wait() == -9
    assert leftovers.marked_processes(entry) == []


def test_a_process_without_the_mark_is_not_ours() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        found = leftovers.marked_processes(b"UNIONFS_TEST_SESSION=of nobody")
        sleeper.kill()
    assert found == []


@pytest.mark.needs_fuse
@pytest.mark.needs_root
def test_a_fuse_mount_is_found_and_cleared(tmp_path: Path) -> None:
    program = shutil.which("fuse-overlayfs")
    assert program, "scripts/setup.sh test installs it"
    for name in ("lower", "merged"):
        (tmp_path / name).mkdir()
    merged = str(tmp_path / "merged")
    subprocess.run([program, "-o", f"lowerdir={tmp_path}/lower", merged], check=True)
    found = leftovers.fuse_mounts(os.fsencode(tmp_path))
    leftovers.clear(found, [])
    assert [entry.target for entry in found] == [os.fsencode(merged)]
    assert leftovers.fuse_mounts(os.fsencode(tmp_path)) == []


@pytest.mark.needs_fuse
@pytest.mark.needs_root
def test_a_run_that_leaves_a_mount_fails_and_names_it(tmp_path: Path) -> None:
    """The whole conftest at work, on a suite of one bad test."""
    run = _run_of(
        tmp_path,
        "--basetemp",
        str(tmp_path / "base"),
        test_bad="import subprocess\n"
        "def test_bad(tmp_path):\n"
        "    (tmp_path / 'm').mkdir()\n"
        "    subprocess.run(['fuse-overlayfs', '-o', f'lowerdir={tmp_path}', tmp_path / 'm'])\n",
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "1 passed, 1 error" in run.stdout
    assert f"mount {tmp_path}/base/test_bad0/m" in run.stdout
    assert "fuse-overlayfs" in run.stdout
    assert leftovers.fuse_mounts(os.fsencode(tmp_path)) == []


@pytest.mark.needs_root
def test_processes_of_a_run_are_apart_and_one_that_dies_leaves_nothing(tmp_path: Path) -> None:
    """Nor is the test run again that ended it; what is left of its file is."""
    ends = f"""if True:
        import os, subprocess
        def test_end():
            with open({str(tmp_path)!r} + '/' + __name__[-1], 'w') as file:
                print(os.readlink('/proc/self/ns/mnt'), file=file)
                print(os.environ[{leftovers.MARK!r}], file=file)
            if __name__.endswith('a'):
                subprocess.Popen(['sleep', '60'])
                os.kill(os.getpid(), 9)
        def test_more():
            pass
    """
    run = _run_of(tmp_path, "-n2", test_a=ends, test_b=ends)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "crashed while running 'tests/test_a.py::test_end'" in run.stdout
    assert "1 failed, 3 passed" in run.stdout
    places, marks = zip(*((tmp_path / name).read_text().split() for name in "ab"), strict=True)
    assert len({*places, os.readlink("/proc/self/ns/mnt")}) == 3
    assert len({*marks, os.environ.get(leftovers.MARK)}) == 3
    assert leftovers.marked_processes(f"{leftovers.MARK}={marks[0]}".encode()) == []


def _run_of(tmp_path: Path, *words: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Run a suite of *files* under our conftest; everything of it is in *tmp_path*."""
    shutil.copytree(Path(machine.__file__).parent, tmp_path / "tests" / "support")
    shutil.copy(Path(machine.__file__).parents[1] / "conftest.py", tmp_path / "tests")
    for name, text in files.items():
        (tmp_path / "tests" / f"{name}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\npythonpath=.\naddopts=--import-mode=importlib\n"
        "markers =\n  needs_fuse\n  needs_root\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--assert=plain", *words],  # all of support is new there
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != leftovers.MARK},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_test_root_is_a_disk() -> None:
    path = Path(machine.test_root())
    assert machine.filesystem(str(path)) not in machine._NOT_A_DISK
    assert machine.filesystem("/proc") == b"proc"

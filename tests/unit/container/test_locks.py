"""Who may mount, run and remove at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.container.locks import (
    GoneError,
    RunningError,
    hold_run_lock,
    is_last_runner,
    is_running,
    mount_lock,
    refuse_while_running,
)
from unionfs.digest import Digest
from unionfs.store.records import ContainerRecord, NewImage
from unionfs.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store")) as store:
        config = b'{"rootfs": {"type": "layers", "diff_ids": []}}'
        store.images.add(NewImage(Digest.of(config), config, (), "amd64", "linux"), ["a"])
        yield store


@pytest.fixture
def one(store: Store) -> ContainerRecord:
    return store.containers.create(store.images.resolve("a"), "one")


def test_runners_are_counted(store: Store, one: ContainerRecord) -> None:
    assert not is_running(store, one)
    first, second = hold_run_lock(store, one), hold_run_lock(store, one)
    assert is_running(store, one)
    with pytest.raises(RunningError, match="container one is running"):
        refuse_while_running(store, one)
    assert not is_last_runner(first)
    os.close(first)
    assert is_last_runner(second)
    os.close(second)
    refuse_while_running(store, one)


def test_looking_does_not_make_a_runner_stay(store: Store, one: ContainerRecord) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_running(store, one)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(200):
            runner = hold_run_lock(store, one)
            assert is_last_runner(runner)
            os.close(runner)
    finally:
        stop.set()
        looker.join()


def test_the_mount_lock_excludes(store: Store, one: ContainerRecord) -> None:
    order = []

    def second() -> None:
        with mount_lock(store, one):
            order.append("second")

    with mount_lock(store, one):
        waiter = threading.Thread(target=second)
        waiter.start()
        waiter.join(0.1)
        order.append("first")
    waiter.join(10)
    assert order == ["first", "second"]


def test_whoever_waits_for_a_removed_container_is_told(store: Store, one: ContainerRecord) -> None:
    errors: list[Exception] = []

    def second() -> None:
        try:
            with mount_lock(store, one):
                errors.append(AssertionError("the lock of a container that is gone"))
        except GoneError as error:
            errors.append(error)

    with mount_lock(store, one):
        waiter = threading.Thread(target=second)
        waiter.start()
        waiter.join(0.1)
        store.containers.remove(one.id)
    waiter.join(10)
    assert [str(error) for error in errors] == ["container one has been removed"]
    with pytest.raises(GoneError), mount_lock(store, one):
        pass

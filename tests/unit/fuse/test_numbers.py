"""Inode numbers across filesystems: never the same for two files, and short where that can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.fuse.numbers import FILESYSTEMS, Numbers

_INODES = st.one_of(st.integers(2, 1 << 10), st.integers(2, (1 << 56) - 1)) | st.sampled_from(
    [n + (1 << bits) for bits in (26, 27, 28, 30, 31, 32, 33, 55) for n in (-1, 0, 5)]
)


def _of(*devices: int) -> Numbers:
    numbers = Numbers()
    numbers.see(devices)
    return numbers


@given(st.sets(st.tuples(st.integers(0, 40), _INODES)), st.integers(1, 41), st.integers(0, 41))
def test_each_file_has_its_own_and_it_leads_back(
    files: set[tuple[int, int]], first: int, later: int
) -> None:
    numbers = _of(*range(first))
    numbers.see(range(first + later))
    known = {(device, ino) for device, ino in files if device < first + later}
    given_out = {numbers.of(*file): file for file in known}
    assert len(given_out) == len(known)
    for number, (_, ino) in given_out.items():
        assert 1 < number < 1 << 63
        assert numbers.inode(number) == ino


@given(_INODES)
def test_on_one_filesystem_it_is_the_inodes(ino: int) -> None:
    assert _of(7, 7, 7).of(7, ino) == ino


@pytest.mark.parametrize(
    ("count", "bits"), [(2, 31), (3, 30), (4, 30), (5, 29), (32, 27), (99, 27)]
)
def test_on_several_short_ones_have_32_bits(count: int, bits: int) -> None:
    numbers = _of(*range(count))
    near, far = range(min(count, 32)), range(32, count)
    assert all(numbers.of(device, (1 << bits) - 1) < 1 << 32 for device in near)
    assert all(numbers.of(device, 1 << bits) >= 1 << 56 for device in near)
    assert all(numbers.of(device, 2) >= 1 << 56 for device in far)


def test_the_first_filesystems_longest_numbers_are_the_inodes() -> None:
    """The upper's: XFS has such, and who takes numbers for signed or for doubles can go on."""
    assert _of(7, 8).of(7, 1 << 40) == 1 << 40


def test_a_filesystem_that_comes_later_changes_nothing() -> None:
    numbers = _of(7)
    before = [numbers.of(7, ino) for ino in (5, 1 << 30, 1 << 40)]
    numbers.see([7, 8])
    assert [numbers.of(7, ino) for ino in (5, 1 << 30, 1 << 40)] == before
    assert numbers.of(8, 5) == 1 << 56 | 5


def test_more_filesystems_than_there_is_room_for() -> None:
    numbers = _of(*range(FILESYSTEMS + 3))
    assert numbers.of(FILESYSTEMS - 1, 5)
    assert numbers.place(FILESYSTEMS) is None
    assert numbers.of(FILESYSTEMS, 5) == 0


def test_what_is_no_number_of_a_file() -> None:
    numbers = _of(7, 8)
    assert [numbers.of(7, ino) for ino in (0, 1, 1 << 56)] == [0, 0, 0]

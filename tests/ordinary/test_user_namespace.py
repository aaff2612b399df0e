"""The mounts' own tests again in a user namespace, as rootless engines have it: ``user.overlay.*``.

By a pytest of its own in there, as root of 65,536 subordinate IDs: a bit of each; in the full run
each module whole. A plain directory in there is what is compared with. What cannot do without the
kernel's overlayfs is left out, which refuses there half of what is compared, and what needs a disk
of its own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.again import module_path, run_again
from tests.support.examples import FULL, TIMEOUT
from tests.support.ordinary import SUBORDINATE, User

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_CASE = "test_killed_at_every_call"
_FAIL = "test_failing_at_every_call"
_SMALL = (
    "test_callers.py",
    "test_sockets.py::test_as_in_a_plain_directory[extension]",
    "apps/test_git.py::test_status_right_after_copy_up[extension]",
    "apps/test_lmdb.py::test_killed_in_the_middle[daemon-write]",
    "apps/test_postgres.py::test_killed_under_load[extension]",
    "apps/test_sqlite.py::test_rewritten[extension-wal]",
    "data/test_fio.py::test_what_was_written_is_read[lower-aio]",
    "test_identity_tools.py::test_rsync[extension]",
    f"crash/test_killed.py::{_CASE}[rename a merged directory]",
    f"crash/test_failing.py::{_FAIL}[rename over a hard link]",
    "test_on_overlayfs.py",
    "renames/test_matrix.py::test_renamed[renamed a generation ago]",
    "tests/property/test_overlay.py::test_over_generations_of_layers",
    "parity/test_calls.py",
)
_TABLES = "not test_calls or chmod- or mkdir-"  # of parity, in the small run
_MORE = (  # modules of tests/mount, and by their full names of tests/property
    "test_callers", "test_links", "test_directories", "test_coherence", "test_rename_flags",
    "test_attributes", "test_identity", "test_identity_links", "test_identity_open",
    "test_identity_tools", "test_side_by_side", "test_sockets", "test_spinning", "test_whole_trees",
    "renames/test_held", "storms/test_listing", "storms/test_copy_up", "storms/test_stress_ng",
    "storms/test_linear", "storms/test_moving", "test_set_id", "test_daemon_death",
    "data/both/test_mapping", "data/both/test_racing", "data/both/test_fsx", "data/test_fio",
    "data/test_sparse",
    "apps/test_dpkg", "apps/test_git", "apps/test_lmdb", "apps/test_postgres", "apps/test_sqlite",
    "crash/test_killed", "crash/test_failing", "crash/test_sequences", "crash/test_together",
    "crash/test_mapped", "parity/test_calls", "parity/test_limits",
    "test_absent", "test_delta_cost", "test_direct", "test_explained", "test_extension",
    "test_fewer_attributes", "test_file_flags", "test_full_disk", "test_layer_forms",
    "test_leaving", "test_lent", "test_lent_directories", "test_lent_kept", "test_lent_merged",
    "test_lower_reads", "test_removing",
    "test_many_open", "test_no_extension", "test_older_kernels", "test_on_overlayfs",
    "test_open_modes", "test_options",
    "test_override", "test_owners", "test_pure", "test_reference_unpacker", "test_refusals",
    "test_relay", "test_remembered", "test_running", "test_told", "test_traced", "test_traced_end",
    "test_unforeseen", "test_xattrless", "data/test_unseen", "data/test_full_disk",
    "data/both/test_uring", "crash/test_commands", "crash/test_rebase_mounted",
    "parity/test_kept_owners", "parity/test_recorded",
    "renames/test_generations", "renames/test_matrix",
    "tests/property/test_overlay", "tests/property/test_overlay_indexed",
    "tests/property/test_overlay_links",
)  # fmt: skip
# What they try is the commands' own work on a store: some of it is enough in the full run, too.
_BRIEF = ("crash/test_commands", "crash/test_rebase_mounted")
# Modules that have nothing to say in there, and why.
_LEFT_OUT = {
    "test_bench_floor": "of the bench, which is run by the machine's root",
    "test_metacopy": "the kernel writes no metacopy there",
    "test_passthrough": "the kernel takes files by itself from the machine's root alone",
    "test_passthrough_mapped": "the same",
    "test_passthrough_writable": "the same",
    "parity/test_passed": "the same",
    "crash/test_commands_power_cut": "nobody mounts a disk of his own there",
    "crash/test_power_cut": "the same",
    "data/test_power_loss": "the same",
    "test_files_ahead": "the same",
    "test_links_power_loss": "the same",
    "test_many_layers": "the same",
    "test_on_btrfs": "the same",
    "test_on_erofs": "the same",
    "test_on_xfs": "the same",
    "test_store_on_fuse": "the same",
    "parity/test_any_calls": "its callers are the machine's, and so is its disk",
    "parity/test_exceptions": "of the kernel's overlayfs, which does not keep what we write there",
}
_DEVICES = "test_devices_work_only_with_dev"  # no device can be made
_READING_AHEAD = [  # sysfs is not theirs
    "test_the_kernel_reads_ahead_as_far_as_said[atime-512]",
    "test_the_kernel_reads_ahead_as_far_as_said[readahead=1024-1024]",
]
# What cannot be had in there, by name.
_NOT_THERE = {
    "test_callers": [_DEVICES],
    "test_pure": [_DEVICES],
    "test_override": [_DEVICES, "test_what_the_disk_has_of_it"],  # of a device
    "test_extension": _READING_AHEAD,
    "test_relay": _READING_AHEAD,
    "test_file_flags": [  # files with chattr(1)'s a
        "test_an_append_only_file_can_be_appended_to_and_no_more",
        "test_a_file_that_was_append_only_before_the_mount",
    ],
    "parity/test_recorded": ["test_opening_asks_whether_a_file_is_protected"],  # and i
    "test_removing": ["test_protected_files_stay", "test_python_says_what_is_wrong"],
    "test_lent": [  # nor the kernel's caches
        "test_nothing_is_left_of_what_is_forgotten",
        "test_one_is_watched_whose_directories_are_forgotten",
        "test_all_goes_and_comes_back",
        "test_who_is_killed_keeps_nothing",
    ],
    "test_set_id": [
        "test_root_of_a_namespace_has_no_right_to_files_of_whom_it_does_not_name"
    ],  # IDs beyond
    # who cannot give files to everybody there may be keeps them as his own
    "test_owners": ["test_squashed_owners"],
    "test_on_overlayfs": ["test_the_form_is_the_kernels[trusted]"],
    "test_xattrless": ["test_what_a_user_does_not_see_root_does"],
    "test_attributes": [  # nor trusted.* attributes
        "test_times_to_the_nanosecond[/null]",
        "test_now_and_omit[/null]",
        "test_device_numbers_and_kinds",
        "test_special_files_take_trusted_but_not_user",
        "test_trusted_attributes_are_listed_for_who_has_the_capability",
        "test_trusted_attributes_are_not_listed_for_root_of_a_namespace",
        "test_a_driver_like_name_is_only_a_name",
    ],
    "parity/test_limits": [  # nor files with chattr(1)'s i and a
        "test_an_immutable_file_opens_for_writing_and_is_not_written",
        "test_a_file_that_only_grows_opens_for_writing_anywhere_and_is_not_written_there",
        "test_statx_does_not_say_what_protects_a_file",
    ],
    # ten minutes are enough
    "apps/test_postgres": ["test_killed_under_load[pure]"],
}


_ON_DISK = "parity/test_calls-on-disk"  # and not on tmpfs, where other rows are needed
_PARTS = {name: (f"{name}.py",) for name in _MORE} | {_ON_DISK: ("parity/test_calls.py",)}
if not FULL:
    _PARTS = {"a bit of each": _SMALL}


def test_every_module_is_decided_about() -> None:
    """Each is run in a user namespace, or said why not."""
    mount = Path(__file__).parents[1] / "mount"
    there = {
        str(path.relative_to(mount).with_suffix("")): path.read_text()
        for path in mount.rglob("test_*.py")
    }
    assert len(set(_MORE)) == len(_MORE)
    assert {*_MORE, *_LEFT_OUT} == there.keys() | {
        name for name in _MORE if name.startswith("tests/")
    }
    assert not set(_MORE) & _LEFT_OUT.keys()
    assert _NOT_THERE.keys() <= set(_MORE)
    text = "\n".join(there.values())
    for name in (name for names in _NOT_THERE.values() for name in names):
        assert f"def {name.partition('[')[0]}(" in text, name


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("name", _PARTS)
def test_again(user: User, name: str) -> None:
    place = user.home.parent / f"userns-{name.replace('/', '-')}"
    place.mkdir()
    os.chown(place, SUBORDINATE, SUBORDINATE)
    run_again(
        user,
        place,
        _asked_for(name),
        left_out=[_NOT_THERE],
        env={"UNIONFS_TEST_USERNS": "1", **_size(name)},
        prefix=[sys.executable, "-m", "tests.support.userns", str(SUBORDINATE)],
    )


def _size(name: str) -> dict[str, str]:
    """Return what the environment says of how much is tried, and where."""
    if not FULL:
        return {"HYPOTHESIS_PROFILE": "default", "UNIONFS_TEST_EXAMPLES": "3"}
    size = {"HYPOTHESIS_PROFILE": "default" if name in _BRIEF else "full"}
    return size | ({"UNIONFS_TEST_DISK": "1"} if name == _ON_DISK else {})


def _asked_for(name: str) -> list[str]:
    """Return what is to run. A busy disk may give a removed file's number to the next one."""
    asked = [module_path(part) for part in _PARTS[name]]
    if not FULL:
        return [*asked, "-k", _TABLES]
    return [*asked, *(["-k", "not again"] if name == _ON_DISK else [])]

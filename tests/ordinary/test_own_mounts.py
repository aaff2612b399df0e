"""The mounts' own tests again in an ordinary user's own mounts: no namespace, no capability.

By a pytest of its own, as himself: a bit of each; in the full run each module whole, also where
owners are beside the files (then the daemon checks permissions, and the user is root there). What
he cannot do in a plain directory either is left out: give files away, mount, be others.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import pytest

from tests.support.again import module_path, run_again
from tests.support.examples import FULL, TIMEOUT
from tests.support.ordinary import GID, UID, User

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_SMALL = (
    "test_directories.py::test_renaming_a_directory_never_says_exdev",
    "test_rename_flags.py",
    "test_identity_tools.py::test_rsync[extension]",
    "renames/test_held.py::test_as_in_a_plain_directory[1]",
    "storms/test_copy_up.py::test_every_change_of_every_process_is_there[extension]",
    "data/test_fio.py::test_what_was_written_is_read[lower-aio]",
    "data/both/test_mapping.py::test_access_behind_the_end_is_sigbus",
    "apps/test_git.py::test_status_right_after_copy_up[extension]",
    "apps/test_lmdb.py::test_killed_in_the_middle[daemon-write]",
    "apps/test_sqlite.py::test_rewritten[extension-wal]",
)
_MODULES = (
    "test_coherence", "test_daemon_death", "test_delta_cost", "test_direct", "test_directories",
    "test_extension",
    "test_fewer_attributes", "test_identity_links", "test_identity_open", "test_identity_tools",
    "test_layer_forms", "test_leaving", "test_links", "test_lower_reads", "test_many_open",
    "test_no_extension", "test_open_modes", "test_options", "test_refusals", "test_relay",
    "test_remembered", "test_removing", "test_rename_flags", "test_set_id", "test_side_by_side",
    "test_sockets",
    "test_spinning", "test_told", "test_traced", "test_traced_end", "test_unforeseen",
    "apps/test_git", "apps/test_lmdb", "apps/test_sqlite",
    "crash/test_mapped", "crash/test_sequences", "crash/test_together",
    "data/test_fio", "data/test_sparse", "data/test_unseen",
    "data/both/test_mapping", "data/both/test_racing", "data/both/test_uring",
    "renames/test_held", "storms/test_copy_up", "storms/test_listing", "storms/test_moving",
)  # fmt: skip
# Modules that he cannot run, and why.
_LEFT_OUT = {
    "he gives no file away, nor is he anybody else": (
        "test_attributes", "test_callers", "test_identity", "test_lent_directories",
        "test_override", "test_owners",
        "test_pure", "test_running", "parity/test_any_calls", "parity/test_calls",
        "parity/test_kept_owners", "parity/test_limits", "parity/test_recorded",
    ),
    "he mounts nothing else, nor makes the kernel forget": (
        "test_absent", "test_files_ahead", "test_full_disk", "test_lent", "test_lent_kept",
        "test_lent_merged",
        "test_links_power_loss", "test_many_layers", "test_on_btrfs", "test_on_erofs",
        "test_on_overlayfs", "test_on_xfs", "test_store_on_fuse", "test_xattrless",
        "crash/test_commands_power_cut", "crash/test_power_cut",
        "data/test_full_disk", "data/test_power_loss",
    ),
    "of the kernel's overlayfs, or of what root alone can have": (
        "test_bench_floor", "test_file_flags", "test_metacopy", "test_older_kernels",
        "test_passthrough", "test_passthrough_mapped", "test_passthrough_writable",
        "parity/test_exceptions", "parity/test_passed",
    ),
    "files of modes that close them to him, or of others": (
        "test_explained", "test_reference_unpacker", "test_whole_trees", "apps/test_dpkg",
        "renames/test_generations", "renames/test_matrix", "storms/test_linear",
    ),
    "his own are in tests/ordinary": (
        "apps/test_postgres", "crash/test_failing", "crash/test_killed", "data/both/test_fsx",
        "storms/test_stress_ng",
    ),
    "of commands, which root runs there": ("crash/test_commands", "crash/test_rebase_mounted"),
}  # fmt: skip
_OF_CALLERS = ("test_with_the_extension[caller of a write]", "test_without_it[caller of a write]")
_READ_AHEAD = (  # which only the machine's root sets
    "test_the_kernel_reads_ahead_as_far_as_said[atime-512]",
    "test_the_kernel_reads_ahead_as_far_as_said[readahead=1024-1024]",
)
# What an ordinary user cannot do, by name.
_NOT_HIS = {
    # to give files away
    "test_coherence": ["test_attributes_seen_through_an_old_descriptor"],
    "test_identity_open": ["test_open_descriptors"],
    "test_links": ["test_removed_lower_file_open_for_reading_only"],
    "test_set_id": [
        "test_chown_to_the_same_by_others_who_may",
        "test_root_of_a_namespace_has_no_right_to_files_of_whom_it_does_not_name",
        "test_root_of_a_namespace_of_his_own_is_in_no_other_group",
        "test_what_a_stranger_changed_does_not_run_with_its_owners_rights",
    ],
    "crash/test_sequences": [  # the forms of this that keep owners beside the files
        "test_acknowledged_changes_are_there[kept owners]",
        "test_killed_in_the_last_of_two[kept owners]",
        "test_side_by_side[kept owners-2]",
        "test_side_by_side[kept owners-3]",
    ],
    # to be somebody else
    "test_extension": [*_OF_CALLERS, *_READ_AHEAD],
    "test_fewer_attributes": ["test_acls_count_for_nothing"],
    "test_relay": [
        *_OF_CALLERS,
        *_READ_AHEAD,
        "test_unmounted_it_leaves_what_is_mounted_below",
    ],
    "test_direct": ["test_a_new_file_is_the_callers"],
    "test_sockets": ["test_who_may_not_write_may_not_connect"],
    "test_told": ["test_paths_on_disk_are_for_the_owner_outside"],
    "test_traced": ["test_it_is_for_the_owner_outside"],
    # to protect files
    "test_removing": ["test_protected_files_stay", "test_python_says_what_is_wrong"],
    # to mount
    "test_refusals": ["test_a_filesystem_that_is_read_only_is_named"],
    "test_identity_links": ["test_a_walk_of_many_links_is_forgotten"],
    "test_lower_reads": ["test_every_file_has_the_content_that_its_layer_says"],
    # to open what its mode closes to him
    "test_layer_forms": ["test_numbers_agree_for_files_of_many_layers"],
}
# What is otherwise where new files are shown as root's, and attributes are beside the files.
_KEPT_OTHERWISE = {
    # git works in no directory of somebody else's
    "test_identity_tools": ["test_git"],
    "apps/test_git": ["test_worked_with_packed_and_cloned"],
    # what is in the attributes on the disk, and how many answers the extension gives
    "test_told": [
        "test_they_are_not_listed_and_nobody_sets_them",
        "test_noxattrinfo_turns_them_off",
    ],
    "test_traced": [
        "test_it_is_not_listed_and_nobody_sets_it",
        "test_what_the_extension_answers_is_told_too",
    ],
}
# Compared with his own plain directory, whose files are his; of what the extension does, which is
# less there; or of an upper that is missing, which the test's mount would have to mark.
_NOT_KEPT = (
    "crash/test_sequences", "crash/test_together", "renames/test_held", "test_direct",
    "test_extension", "test_refusals", "test_relay", "test_removing", "test_sockets",
)  # fmt: skip
_KEPT = "xattr_permissions=2"
_PARTS = {name: (f"{name}.py",) for name in _MODULES} if FULL else {"a bit of each": _SMALL}
_RUNS = [(name, "") for name in _PARTS]
if FULL:
    _RUNS += [(name, _KEPT) for name in _PARTS if name not in _NOT_KEPT]


def test_every_module_is_decided_about() -> None:
    """Each is run, or said why not."""
    mount = Path(__file__).parents[1] / "mount"
    there = [str(path.relative_to(mount).with_suffix("")) for path in mount.rglob("test_*.py")]
    assert sorted([*_MODULES, *chain.from_iterable(_LEFT_OUT.values())]) == sorted(there)
    assert {*_NOT_HIS, *_KEPT_OTHERWISE, *_NOT_KEPT} <= set(_MODULES)


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize(("name", "options"), _RUNS)
def test_again(user: User, name: str, options: str) -> None:
    place = user.home.parent / f"own-{name.replace('/', '-')}-{options}"
    place.mkdir()
    os.chown(place, UID, GID)
    left_out = [_NOT_HIS, _KEPT_OTHERWISE] if options else [_NOT_HIS]
    run_again(
        user,
        place,
        [module_path(part) for part in _PARTS[name]],
        left_out=left_out,
        env={
            "UNIONFS_TEST_USERNS": "1",
            "UNIONFS_TEST_ORDINARY": "1",
            "UNIONFS_TEST_OPTIONS": options,
            "HYPOTHESIS_PROFILE": "full" if FULL else "default",
        },
    )

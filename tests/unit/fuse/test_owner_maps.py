"""The translation of owners, without a mount."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from unionfs.fuse.owners import Ids, owners_of
from unionfs.options import IdRange, MountConfig
from unionfs.syscalls.idmap import overflow_ids
from unionfs.upper.create import Owner

OWN = Owner(500, 600)
MAP = (IdRange(0, 1, 1000), IdRange(1000, 0, 1), IdRange(1001, 1001, 64535))  # podman's keep-id


def owners(**fields):
    return owners_of(MountConfig((), **fields), OWN, gives_owners=fields.pop("gives", True))


def test_every_id_of_the_map_comes_back():
    ids = Ids(MAP, None, 65534)
    for disk in (0, 1, 999, 1000, 1001, 65535):
        assert ids.kept(ids.shown(disk)) == ids.maker(ids.shown(disk)) == disk
    assert [ids.shown(disk) for disk in (0, 999, 1000, 1001)] == [1, 1000, 0, 1001]
    assert ids.shown(65536) == ids.maker(65536) == 65534 and ids.kept(65536) is None


def test_no_options_no_translation():
    assert owners() is None
    assert owners(uid_map=MAP) and owners(squash_to_gid=0) and owners(squash_to_root=True)


def test_one_kind_alone_is_mapped():
    found = owners(uid_map=MAP)
    assert found.maker(Owner(0, 0)) == (1000, 0) and found.changed(1, 1) == (0, 1)


def test_leaving_an_id_is_not_asking_for_one():
    assert owners(uid_map=MAP, gid_map=MAP).changed(-1, -1) == (-1, -1)


def test_what_has_no_place_is_given_nothing():
    with pytest.raises(OSError) as caught:
        owners(gid_map=MAP).changed(5, 70000)
    assert caught.value.errno == errno.EOVERFLOW


def test_where_nothing_can_be_given_squashed_files_are_our_own():
    config = MountConfig((), squash_to_uid=7, gid_map=MAP)
    found = owners_of(config, OWN, gives_owners=False)
    assert found.maker(Owner(3, 1)) == (500, 0) and found.changed(3, 1) == (-1, 0)


def test_membership_is_asked_of_the_shown_group():
    found = owners(gid_map=MAP)
    assert found.member(None) is None
    assert [g for g in (0, 1, 1000) if found.member(lambda _, group: group == 1)(0, g)] == [0]


def test_acls():
    def value(user, group):
        entries = [(1, 7, 0), (2, 6, user), (4, 0, 0), (8, 4, group), (16, 7, 0), (32, 0, 0)]
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)

    found = owners(uid_map=MAP, gid_map=MAP)
    name = b"system.posix_acl_default"
    assert found.shown_value(name, value(5, 1000)) == value(6, 0)
    assert found.kept_value(name, value(6, 0)) == value(5, 1000)
    assert found.kept_value(b"user.x", b"anything") == b"anything"
    assert found.shown_value(b"user.x", b"anything") == b"anything"
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        found.kept_value(name, b"no ACL")


def test_the_kernels_overflow_ids():
    with open("/proc/sys/kernel/overflowgid") as file:
        assert overflow_ids()[1] == int(file.read())

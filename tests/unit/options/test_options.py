"""``-o`` strings: escapes, defaults, and that every option is honoured, named or refused."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.cli.option_help import EXPLAINED
from unionfs.options import (
    BadOptionError,
    IdRange,
    MountConfig,
    UnsupportedOptionError,
    _id_map,
    absolute,
    apply_options,
    defaults,
    has_relative,
    parse_helper_options,
    split_options,
)


def parse(*words, privileged=True):
    return parse_helper_options(words, privileged=privileged)


def with_lower(options, **kwargs):
    return parse("lowerdir=/l," + options, **kwargs)


class TestPaths:
    @pytest.mark.parametrize(
        ("text", "paths"),
        [
            (r"lowerdir=/a:/b", (b"/a", b"/b")),
            (r"lowerdir=/a\:b:/c", (b"/a:b", b"/c")),
            (r"lowerdir=/a\\:b:/c", (b"/a:b", b"/c")),
            (r"lowerdir=/a\,b:/c", (b"/a,b", b"/c")),
            (r"lowerdir=/a\"b", (b'/a"b',)),
            (r"lowerdir=/a\\b", (b"/a\\b",)),
            (r"lowerdir=/a\b", (b"/a\\b",)),
            (r"lowerdir=/a\134:/b", (b"/a\\", b"/b")),
            (r"lowerdir=/a\054b", (b"/a,b",)),
            (r'lowerdir="/a,b:/c"', (b"/a,b", b"/c")),
            (r'lowerdir=/a"b', (b'/a"b',)),
            (r"lowerdir=/a:/b:", (b"/a", b"/b")),
            (r"lowerdir=l/XXXX/../diff1", (b"l/XXXX/../diff1",)),
            ("lowerdir=/n\udcffm", (b"/n\xffm",)),
        ],
    )
    def test_lowerdir(self, text, paths):
        assert parse(text).lowerdirs == paths

    def test_a_colon_needs_no_escape_where_nothing_is_a_list(self):
        config = with_lower(r"upperdir=/u:1,workdir=/w\:2")
        assert (config.upperdir, config.workdir) == (b"/u:1", b"/w:2")

    def test_five_hundred_lowers(self):
        names = [b"/var/lib/containers/storage/overlay/l/%026d" % n for n in range(500)]
        assert parse("lowerdir=" + os.fsdecode(b":".join(names))).lowerdirs == tuple(names)

    @pytest.mark.parametrize("text", ["lowerdir=", "lowerdir=:/a", r"lowerdir=/a\000b", "lowerdir"])
    def test_what_is_no_path(self, text):
        with pytest.raises(BadOptionError, match="lowerdir"):
            parse(text)

    def test_data_only_layers_are_refused_by_name(self):
        with pytest.raises(UnsupportedOptionError, match="data-only"):
            parse("lowerdir=/a::/data")

    @given(
        st.lists(
            st.binary(min_size=1, max_size=30).filter(lambda p: b"\0" not in p),
            min_size=1,
            max_size=5,
        )
    )
    def test_escaped_paths_come_back(self, paths):
        text = b"ro,lowerdir=" + b":".join(map(escaped, paths)) + b",volatile"
        config = parse(os.fsdecode(text))
        assert config.lowerdirs == tuple(paths)
        assert config.read_only and config.volatile and not config.ignored

    @given(st.binary(max_size=60))
    def test_splitting_loses_nothing_but_separators(self, text):
        joined = b"".join(split_options(text))
        assert len(joined) >= len(text) - text.count(b",")
        assert [c for c in joined if c != ord(",")] == [c for c in text if c != ord(",")]


def escaped(path: bytes) -> bytes:
    path = path.replace(b"\\", rb"\134")
    for character in (b":", b",", b'"'):
        path = path.replace(character, b"\\" + character)
    return path


class TestLists:
    def test_empty_options_and_a_trailing_comma(self):
        config = parse("lowerdir=/l,upperdir=/u,workdir=/w,,volatile,")
        assert config.workdir == b"/w" and config.volatile and config.ignored == ()

    def test_several_words_and_the_last_one_wins(self):
        config = parse("lowerdir=/a,ro", "rw", "lowerdir=/b")
        assert config.lowerdirs == (b"/b",) and config.read_only is False

    def test_unknown_ones_are_kept_to_be_named(self):
        config = with_lower("private,index=off,timeout=3,xino=off")
        assert config.ignored == ("private", "index=off", "timeout=3", "xino=off")

    def test_what_fstab_adds_is_nothing_to_name(self):
        assert with_lower("defaults,_netdev,x-systemd.automount,comment=x").ignored == ()
        assert with_lower("user,nosuid,nodev,noexec").ignored == ()

    def test_quotes_protect_commas_of_other_options(self):
        text = b'context="system_u:object_r:t:s0:c1,c2",volatile'
        assert list(split_options(text)) == [b'context="system_u:object_r:t:s0:c1,c2"', b"volatile"]


class TestDefaults:
    def test_root(self):
        config = with_lower("")
        assert (config.default_permissions, config.allow_other, config.suid) == (True, True, True)
        assert (config.atime, config.dev, config.exec_, config.aufs) == (False, False, True, True)

    def test_ordinary_users(self):
        config = with_lower("", privileged=False)
        assert (config.default_permissions, config.allow_other, config.suid) == (True, False, False)

    def test_ordinary_users_never_have_suid_and_dev(self):
        config = with_lower("suid,dev,exec", privileged=False)
        assert (config.suid, config.dev) == (False, False)
        assert config.ignored == ("suid", "dev")

    def test_root_turns_them_on_and_off(self):
        config = with_lower("dev,nosuid,noexec")
        assert (config.suid, config.dev, config.exec_) == (False, True, False)

    def test_options_on_top_of_a_containers(self):
        base = MountConfig((b"/l",), b"/u", b"/w", aufs=False)
        config = apply_options(base, ["ro,fsname=x"], privileged=True)
        assert config == MountConfig((b"/l",), b"/u", b"/w", read_only=True, fsname="x")

    def test_without_layers(self):
        assert defaults(privileged=True).lowerdirs == ()


class TestHonoured:
    @pytest.mark.parametrize(
        ("option", "field", "value"),
        [
            ("ro", "read_only", True),
            ("volatile", "volatile", True),
            ("fsync=0", "volatile", True),
            ("fsync=1", "volatile", False),
            ("userxattr", "userxattr", True),
            ("redirect_dir=off", "redirect_dir", False),
            ("redirect_dir=on", "redirect_dir", True),
            ("allow_root", "allow_root", True),
            ("atime", "atime", True),
            (r"fsname=a\,b", "fsname", "a,b"),
            ("subtype=x", "subtype", "x"),
            ("debug", "debug", True),
            ("record", "record", True),
        ],
    )
    def test_field(self, option, field, value):
        assert getattr(with_lower(option), field) == value

    @pytest.mark.parametrize(
        "option", ["fsync=2", "fsync=x", "redirect_dir=maybe", "spin=-1", "spin=1e3"]
    )
    def test_values_without_meaning(self, option):
        with pytest.raises(BadOptionError, match=option.split("=")[0]):
            with_lower(option)

    def test_allow_root_takes_the_place_of_allow_other(self):
        config = with_lower("allow_root")
        assert (config.allow_root, config.allow_other) == (True, False)
        config = with_lower("allow_root,allow_other")
        assert (config.allow_root, config.allow_other) == (False, True)


class TestLayersTogether:
    def test_no_lowerdir(self):
        with pytest.raises(BadOptionError, match="lowerdir="):
            parse("upperdir=/u,workdir=/w")

    def test_upperdir_without_workdir(self):
        with pytest.raises(BadOptionError, match="without workdir"):
            with_lower("upperdir=/u")

    def test_workdir_alone_is_named_as_ignored(self):
        config = with_lower("workdir=/w")
        assert config.workdir is None and config.ignored == ("workdir=/w",)


class TestRefused:
    @pytest.mark.parametrize("option", ["plugins=/a.so", "remount,ro"])
    def test_by_name(self, option):
        with pytest.raises(UnsupportedOptionError, match=option.split("=")[0].split(",")[0]):
            with_lower(option)

    def test_record_where_reads_are_not_seen(self):
        assert with_lower("record,data=passthrough,data=auto").record
        for words in ("record,data=passthrough", "data=passthrough,record"):
            with pytest.raises(UnsupportedOptionError, match="record is refused with data=passth"):
                with_lower(words)


class TestAttributes:
    @pytest.mark.parametrize(
        ("options", "acl", "xattrs"),
        [
            ("noacl", False, True),
            ("noxattrs=1", True, False),
            ("noxattrs", True, False),
            ("noxattrs,noxattrs=0", True, True),
        ],
    )
    def test_less_of_them(self, options, acl, xattrs):
        config = with_lower(options)
        assert (config.acl, config.xattrs, config.ignored) == (acl, xattrs, ())

    @pytest.mark.parametrize(
        "text",
        [
            'context="system_u:object_r:container_file_t:s0:c1,c2"',
            r"context=system_u:object_r:container_file_t:s0:c1\,c2",
        ],
    )
    def test_a_label_keeps_its_commas_and_colons(self, text):
        label = "system_u:object_r:container_file_t:s0:c1,c2"
        assert with_lower(text + ",ro").context == label and with_lower(text + ",ro").read_only

    @pytest.mark.parametrize("label", ['""', "a b", '"a\\"b"', "a\0b"])
    def test_no_label(self, label):
        with pytest.raises(BadOptionError, match="context"):
            with_lower(f"context={label}")


class TestAsIfNothingWasSaid:
    @pytest.mark.parametrize(
        "option", ["kernel_cache", "threaded=0", "writeback=0", "xino=on", "xino=auto", "defaults"]
    )
    def test_what_is_so_anyway(self, option):
        assert with_lower(option).ignored == ()

    @pytest.mark.parametrize(
        "option",
        ["threaded=1", "writeback=1", "xino=off", "ino32_t", "fast_ino", "timeout=3", "max_write=4",
         "splice_read", "nonempty"],
    )  # fmt: skip
    def test_what_is_not_is_named(self, option):
        assert with_lower(option).ignored == (option,)


class TestIdMaps:
    def test_leading_colon(self):
        assert _id_map("uidmapping", b":0:100000:65536:65536:1000:1") == {
            "uid_map": (IdRange(0, 100000, 65536), IdRange(65536, 1000, 1))
        }

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"0:1",
            b"0:1:2:3",
            b"0:1:0",
            b"a:b:c",
            b"-1:0:1",
            b"0:0:4294967296",
            b"4294967294:0:2",
            b"0:0:10:5:100:1",
            b"0:0:10:100:5:1",
        ],
    )
    def test_bad_maps(self, text):
        with pytest.raises(BadOptionError, match="gidmapping"):
            _id_map("gidmapping", text)


class TestAbsolute:
    def test_prefixes_without_normalising(self):
        config = MountConfig((b"../a/..", b"/b"), b"u", b"./w")
        assert has_relative(config)
        found = absolute(config, b"/c/d")
        assert found == MountConfig((b"/c/d/../a/..", b"/b"), b"/c/d/u", b"/c/d/./w")
        assert not has_relative(found)


EXAMPLES = {"MICROSECONDS": "5", "KIB": "512", "MAP": ":0:100000:65536", "UID": "1000"}


def test_what_the_help_explains_is_what_there_is():
    explained = [line.split("  ")[1].partition("=") for line in EXPLAINED.splitlines()]
    for names, equals, value in explained:
        for name in names.split(", "):
            word = name + equals + EXAMPLES.get(value, value)
            assert apply_options(defaults(privileged=True), [word], privileged=True).ignored == ()

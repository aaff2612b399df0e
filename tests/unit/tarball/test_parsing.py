"""Headers, pax records and sparse maps, as the files that come out of them."""

from __future__ import annotations

import os
import stat

import pytest

from tests.support import tars
from tests.support.layers import apply
from unionfs.tarball.header import TarFormatError, check_sum, number
from unionfs.tarball.names import UnsafeEntryError
from unionfs.tarball.pax import nanoseconds, parse_records


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"    644 ", 0o644),
        (b"\0" * 8, 0),
        (b"       \0", 0),
        (b"7\0garbage", 7),
        (tars.base256(2**60, 12), 2**60),
        (tars.base256(-1, 12), -1),
        (tars.base256(-(2**40), 12), -(2**40)),
    ],
)
def test_numbers(field, value):
    assert number(field) == value


@pytest.mark.parametrize("field", [b"0o7\0", b"+7\0", b"-7\0", b"7_7\0", b"8\0", b"x\0", b"7 7\0"])
def test_bad_numbers(field):
    with pytest.raises(TarFormatError, match="bad number"):
        number(field)


def test_checksums_unsigned_signed_and_wrong():
    block = tars.header("n", b"0", magic=b"ustar\00000", prefix=b"\xff\xfe" * 40)
    assert check_sum(block)
    signed = sum(b - 256 if b > 127 else b for b in block[:148] + b" " * 8 + block[156:])
    assert check_sum(tars.header("n", b"0", prefix=b"\xff\xfe" * 40, checksum=signed))
    assert not check_sum(tars.header("n", b"0", checksum=1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"0", 0),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
        (b"1.1234567899", 1_123_456_789),
        (b"12.", 12_000_000_000),
    ],
)
def test_pax_times(text, value):
    assert nanoseconds(text) == value


@pytest.mark.parametrize("text", [b"", b"1e9", b"--1", b"1.2.3", b"+1", b"nan", b".5", b"1\0"])
def test_bad_pax_times(text):
    with pytest.raises(TarFormatError, match="bad time"):
        nanoseconds(text)


@pytest.mark.parametrize(
    "data",
    [b"5 a=\nx", b"99 a=b\n", b"0 a=b\n", b"-6 a=b\n", b"6 a=bc", b"6 =ab\n", b"abc", b"5 ab\n"],
)
def test_bad_pax_records(data):
    with pytest.raises(TarFormatError, match="bad pax record"):
        parse_records(data)


def test_pax_records_keep_newlines_equals_and_nul_in_values():
    data = tars.record("a", b"x\ny=z\0") + tars.record("b", b"")
    assert parse_records(data) == [(b"a", b"x\ny=z\0"), (b"b", b"")]


def test_names_of_every_form(tmp_path):
    long = "d" * 60 + "/" + "f" * 90
    layer = apply(
        tmp_path,
        tars.tar(
            tars.header("short", b"0"),
            tars.header("in-prefix", b"0", prefix=b"pre/fix"),
            tars.header("v7file", b"\0", magic=b"\0" * 8),
            tars.header("v7dir/", b"\0", magic=b"\0" * 8, mode=0o755),
            tars.header("star", b"0", tail=b"pp".ljust(163, b"\0") + b"tar\0"),
            tars.header("gnu", b"0", magic=b"ustar  \0", tail=b"00000000001\0"),
            tars.gnu_long(long) + tars.header("cut", b"0"),
            tars.pax({"path": b"pax-\xff\xfe-name"}) + tars.header("cut", b"0"),
            tars.header(b"latin-\xe9", b"0"),
            tars.gnu_long("t" * 300, b"K") + tars.header("link", b"2", link="cut"),
        ),
    )
    assert layer.names() == {
        b"short", b"pre", b"pre/fix", b"pre/fix/in-prefix", b"v7file", b"v7dir", b"pp", b"pp/star",
        b"gnu", b"d" * 60, long.encode(), b"pax-\xff\xfe-name", b"latin-\xe9", b"link",
    }  # fmt: skip
    assert stat.S_ISDIR(layer.lstat("v7dir").st_mode)
    assert os.readlink(layer.at("link")) == b"t" * 300


def test_pax_size_and_last_record_win(tmp_path):
    records = [("path", "first"), ("path", "second"), ("size", "3")]
    layer = apply(
        tmp_path, tars.tar(tars.pax(records) + tars.header("x", b"0") + tars.padded(b"abc"))
    )
    assert layer.read("second") == b"abc"


def test_global_pax_headers_are_ignored(tmp_path):
    layer = apply(
        tmp_path, tars.tar(tars.pax({"comment": "c0ffee", "uid": "7"}, b"g"), tars.file("a"))
    )
    assert layer.lstat("a").st_uid == os.geteuid()


@pytest.mark.parametrize(
    "member",
    [
        tars.gnu_long(b"a\0b") + tars.header("x", b"0"),
        tars.pax({"path": b"a\0b"}) + tars.header("x", b"0"),
        tars.pax({"linkpath": b"a\0b"}) + tars.header("x", b"2", link="y"),
        tars.file("x", pax={"SCHILY.xattr.user.\0": b"v"}),
    ],
)
def test_nul_in_names(tmp_path, member):
    with pytest.raises(TarFormatError):
        apply(tmp_path, tars.tar(member))


PARTS = [(512 * n * 3, bytes((n + 1,)) * 512) for n in range(30)]
SPARSE = {
    "old": tars.sparse_old("s", 100_000, PARTS),
    **{form: tars.sparse_pax("s", 100_000, PARTS, form) for form in ("0.0", "0.1", "1.0")},
}


@pytest.mark.parametrize("form", SPARSE)
def test_sparse_forms(tmp_path, form):
    expected = bytearray(100_000)
    for offset, data in PARTS:
        expected[offset : offset + len(data)] = data
    layer = apply(tmp_path, tars.tar(SPARSE[form], tars.file("after", b"x")))
    assert layer.names() == {b"s", b"after"}
    assert layer.read("s") == bytes(expected)
    assert layer.read("after") == b"x"
    assert layer.applied.content_size == 100_001


def test_sparse_file_of_nothing_but_a_hole(tmp_path):
    layer = apply(tmp_path, tars.tar(tars.sparse_pax("s", 1 << 33, [], "1.0")))
    assert layer.lstat("s").st_size == 1 << 33
    assert layer.lstat("s").st_blocks < 100


@pytest.mark.parametrize(
    "member",
    [
        tars.sparse_pax("s", 100, [(50, b"x" * 51)], "0.1"),  # beyond the end
        tars.sparse_pax("s", 100, [(10, b"x" * 10), (15, b"x" * 10)], "1.0"),  # overlapping
        tars.sparse_pax("s", 100, [(50, b"x"), (0, b"x")], "0.0"),  # backwards
        tars.pax({"GNU.sparse.size": "9", "GNU.sparse.map": "0,5,7"}) + tars.file("s", b"x" * 5),
        tars.pax({"GNU.sparse.size": "9", "GNU.sparse.map": "0,5"}) + tars.file("s", b"x" * 6),
        tars.pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"})
        + tars.file("s", b"no numbers here\n".ljust(512)),
        tars.pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"})
        + tars.file("s"),
        tars.sparse_old("s", 10, [(8, b"xxxx")]),
    ],
)
def test_impossible_sparse_maps(tmp_path, member):
    with pytest.raises(TarFormatError):
        apply(tmp_path, tars.tar(member))


def test_negative_size(tmp_path):
    with pytest.raises(TarFormatError, match="negative size"):
        apply(tmp_path, tars.tar(tars.header("x", b"0", size=tars.base256(-512, 12))))


def test_damage_in_mid_archive_is_not_the_end(tmp_path):
    data = tars.tar(tars.file("a"), tars.header("b", b"0", checksum=1), tars.file("c"))
    with pytest.raises(TarFormatError, match="byte 512"):
        apply(tmp_path, data)


@pytest.mark.parametrize("length", [100, 512 + 100, 1024 + 700, 2048 + 511])
def test_truncation(tmp_path, length):
    data = tars.tar(tars.file("a"), tars.file("b", b"x" * 1000), tars.file("c"))
    with pytest.raises(TarFormatError, match="ends in the middle"):
        apply(tmp_path, data[:length])


@pytest.mark.parametrize("missing", [1, 24])
def test_padding_that_the_last_entry_does_not_have(tmp_path, missing):
    """So ends what umoci's insert writes (0.4.7); every importer in Go takes it."""
    data = tars.tar(tars.file("a"), tars.file("b", b"x" * 1000), end=b"")
    done = apply(tmp_path, data[:-missing])
    assert done.read("b") == b"x" * 1000
    assert done.applied.tar_size == len(data) - missing
    assert done.applied.warnings == ("tar without its end mark: 1, first b''",)


def test_truncation_after_an_extended_header(tmp_path):
    with pytest.raises(TarFormatError, match="without its entry"):
        apply(tmp_path, tars.pax({"path": "x"}))


def test_missing_end_mark_and_garbage_after_it_are_said(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    one = apply(tmp_path / "1", tars.tar(tars.file("a"), end=b""))
    assert one.applied.warnings == ("tar without its end mark: 1, first b''",)
    data = tars.tar(tars.file("a")) + b"garbage" * 400_000
    two = apply(tmp_path / "2", data)
    assert "data after the end" in two.applied.warnings[0]
    assert two.applied.tar_size == len(data)
    assert two.names() == {b"a"}


@pytest.mark.parametrize("kind", [b"V", b"M", b"D", b"X", b"A", b"\xff"])
def test_unknown_types(tmp_path, kind):
    with pytest.raises(UnsafeEntryError, match="unknown type"):
        apply(tmp_path, tars.tar(tars.header("x", kind)))


def test_links_and_directories_have_no_data_whatever_their_size_says(tmp_path):
    data = tars.tar(
        tars.header("d", b"5", size=4096, mode=0o755),
        tars.file("a", b"x"),
        tars.header("h", b"1", link="a", size=1),
        tars.file("b"),
    )
    assert apply(tmp_path, data).names() == {b"d", b"a", b"h", b"b"}

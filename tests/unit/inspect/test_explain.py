"""Explanations of an image and a container whose right answers are written down."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.anatomy import COMMANDS, make_store
from tests.support.explaining import plain_source
from tests.support.stacks import Dir, File, Link, Symlink, Whiteout, build_stack
from unionfs.container.subject import find_source
from unionfs.errors import NotFoundError
from unionfs.inspect import words
from unionfs.inspect.explain import Explanation, Outcome, Write, explain
from unionfs.inspect.history import command_of, layer_commands
from unionfs.inspect.similar import one_edit_apart, similar
from unionfs.inspect.stack import Source
from unionfs.store.store import Store
from unionfs.union.reasons import How, Says

Explain = Callable[[str], Explanation]
REMOVED = f"`{COMMANDS[2]}`"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("anatomy") / "store"
    image = make_store(root)
    with Store.open(str(root)) as store:
        store.containers.create(image, "web")
    return root


@pytest.fixture(scope="module")
def source(root: Path) -> Source:
    with Store.open(str(root)) as store:
        return find_source(store, "anatomy")


@pytest.fixture
def said(source: Source) -> Explain:
    return lambda path: explain(source, os.fsencode(path))


def says(found: Explanation, component: int = -1) -> list[str]:
    """What the layers say about a component, topmost first, in few words."""
    return [words.verdict(one) for one in found.steps[component].verdicts]


def test_the_topmost_copy_wins_and_the_others_are_listed(said: Explain) -> None:
    found = said("/etc/motd")
    shown = found.shown
    assert shown is not None
    assert (shown.layer.number, shown.layer.command, shown.size) == (4, COMMANDS[3], 8)
    assert Path(os.fsdecode(shown.path)).read_bytes() == b"welcome\n"
    assert os.fsencode(str(shown.layer.digest).removeprefix("sha256:")) in shown.path
    assert says(found) == ["file, 8B", "file, 8B", "absent, like its directory", "file, 8B"]
    others = [(one.layer.number, one.same, one.mtime_ns // 10**9) for one in found.copies[1:]]
    assert others == [(3, False, 1_200_000_000), (1, True, 1_000_000_000)]
    assert found.write.what is Write.READ_ONLY
    assert words.answer(found) == f"from layer 4, `{COMMANDS[3]}`; hides layer 3 and layer 1"


def test_a_deleted_directory_is_blamed_on_the_command(said: Explain) -> None:
    found = said("/usr/share/doc/a")
    assert found.outcome is Outcome.HIDDEN
    assert found.missing == b"/usr/share/doc"
    assert found.blame is not None
    assert (found.blame.layer.number, found.blame.how) == (3, How.WHITEOUT)
    assert words.answer(found).startswith("/usr/share/doc is deleted by layer 3, `RUN rm -rf")
    assert [(one.layer.number, one.size) for one in found.copies] == [(1, 100)]
    assert [step.path for step in found.steps] == [
        b"/usr", b"/usr/share", b"/usr/share/doc", b"/usr/share/doc/a",
    ]  # fmt: skip
    assert [one.says for one in found.steps[2].verdicts][1] is Says.WHITEOUT


def test_what_an_opaque_directory_hides(said: Explain) -> None:
    found = said("/opt/tool")
    assert found.outcome is Outcome.HIDDEN
    assert found.blame is not None
    assert (found.blame.layer.number, found.blame.how) == (3, How.OPAQUE)
    assert (
        words.answer(found)
        == f"/opt/tool is hidden: /opt is an opaque directory in layer 3, {REMOVED}"
    )
    assert says(found, 0)[1] == "directory, opaque"


def test_a_file_that_came_back(said: Explain) -> None:
    found = said("/app/data")
    assert says(found)[:3] == ["file, 3B", "whiteout: deletes it", "file, 1kB"]
    hidden = found.steps[-1].verdicts[2].hidden
    assert hidden is not None
    assert (hidden.layer.number, hidden.how) == (4, How.COVERED)
    old = found.copies[1]
    assert (old.uid, old.gid, old.mode, old.same) == (1000, 1001, 0o640, False)


def test_links_on_the_way_are_followed_and_the_last_is_not(said: Explain) -> None:
    found = said("/app/conf/motd")
    assert [step.link for step in found.steps] == [None, b"../etc", None, None]
    assert (found.path, found.outcome) == (b"/etc/motd", Outcome.FOUND)
    last = said("/app/conf").shown
    assert last is not None
    assert (last.kind, last.target) == (stat.S_IFLNK, b"../etc")
    assert said("/app/conf/").path == b"/etc"
    assert said("app/./conf/../etc/motd").path == b"/etc/motd"
    assert said("/app/../../..").path == b"/"


def test_what_is_not_there(said: Explain) -> None:
    assert said("/nothing").outcome is Outcome.ABSENT
    assert words.answer(said("/nothing")) == "/nothing is in no layer"
    assert said("/nothing/at/all").outcome is Outcome.NO_PARENT
    below = said("/etc/motd/x")
    assert below.outcome is Outcome.NOT_A_DIRECTORY
    assert words.answer(below) == "/etc/motd is no directory, so nothing is below it"


@pytest.mark.parametrize(
    ("path", "meant"),
    [("/etc/MOTD", b"motd"), ("/etc/mtod", b"motd"), ("/etc/mod", b"motd"), ("/Etc", b"etc")],
)
def test_names_that_may_have_been_meant(said: Explain, path: str, meant: bytes) -> None:
    assert meant in said(path).similar


def test_two_names_that_differ_in_case_are_two(said: Explain) -> None:
    assert words.answer(said("/ETC")) == f"from layer 2, `{COMMANDS[1]}`"
    assert said("/eTC").similar == [b"ETC", b"etc"]


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("motd", "mtod", True),
        ("motd", "motd2", True),
        ("motd", "otd", True),
        ("motd", "mott", True),
        ("motd", "motd", False),
        ("motd", "mdot", False),
        ("ab", "ba", True),
        ("", "a", True),
        ("abc", "a", False),
    ],
)
def test_one_edit(one: str, other: str, apart: bool) -> None:
    assert one_edit_apart(one, other) is one_edit_apart(other, one) is apart


def test_similar_takes_another_normal_form_first() -> None:
    names = [b"cafe", "cafe\u0301".encode(), b"\xff"]
    assert similar("caf\u00e9".encode(), names) == ["cafe\u0301".encode(), b"cafe"]


def test_the_upper_of_a_container(root: Path) -> None:
    with Store.open(str(root)) as store:
        source = find_source(store, "web")
        upper = Path(store.containers.path(store.containers.resolve("web").id)) / "upper"
    plan = explain(source, b"/etc/motd").write
    assert (plan.what, plan.bytes, plan.directories) == (Write.COPY_UP, 8, 1)
    plan = explain(source, b"/etc/new").write
    assert (plan.what, plan.directories) == (Write.CREATE, 1)
    plan = explain(source, b"/no/such").write
    assert plan.what is Write.IMPOSSIBLE
    (upper / "etc").mkdir()
    (upper / "etc" / "motd").write_bytes(b"mine")
    found = explain(source, b"/etc/motd")
    assert (found.write.what, found.shown.layer.label) == (Write.IN_PLACE, "upper")  # type: ignore[union-attr]
    assert [one.layer.label for one in found.copies] == ["upper", "layer 4", "layer 3", "layer 1"]
    assert explain(source, b"/etc").write.what is Write.IN_PLACE
    assert explain(source, b"/app").write.directories == 1
    assert explain(source, b"/app/conf").write.what is Write.FOLLOW


def test_a_subject_that_is_nothing(root: Path) -> None:
    with Store.open(str(root)) as store:
        with pytest.raises(NotFoundError, match="no such container, image or mount point: nope"):
            find_source(store, "nope")
        with pytest.raises(NotFoundError, match="not a mount point"):
            find_source(store, str(root))


def test_a_link_that_leads_to_itself(tmp_path: Path) -> None:
    layers = build_stack(os.fsencode(tmp_path / "s"), [[Symlink(b"me", b"me"), File(b"f")]])
    found = explain(plain_source(layers, aufs=True), b"/me/x")
    assert found.outcome is Outcome.LINK_LOOP
    assert len(found.steps) == 41


@pytest.mark.needs_root
def test_a_file_covers_a_directory_and_the_other_way_round(tmp_path: Path) -> None:
    stack = [
        [File(b"d/inside"), File(b"f")],
        [Whiteout(b"nothing"), File(b"d", b"now a file"), Dir(b"f")],
        [Dir(b"f")],
    ]
    source = plain_source(build_stack(os.fsencode(tmp_path / "s"), stack))
    found = explain(source, b"/d/inside")
    assert found.outcome is Outcome.NOT_A_DIRECTORY
    hidden = found.steps[0].verdicts[-1].hidden
    assert hidden is not None
    assert (hidden.layer.number, hidden.how) == (2, How.COVERED)
    assert [(one.layer.number, one.hidden) for one in found.copies] == [(1, hidden)]
    merged = explain(source, b"/f")
    assert [one.counts for one in merged.steps[0].verdicts] == [False, True, True, False]
    assert words.answer(merged) == "merged from layer 3 and layer 2"
    unneeded = explain(source, b"/nothing")
    assert unneeded.outcome is Outcome.ABSENT
    assert words.answer(unneeded) == "/nothing is deleted by layer 2; no layer below has it"


def test_a_read_only_mount_refuses(tmp_path: Path) -> None:
    layers = build_stack(os.fsencode(tmp_path / "s"), [[File(b"a"), Link(b"b", b"a")]])
    source = replace(plain_source(layers), read_only=True)
    assert explain(source, b"/a").write.what is Write.READ_ONLY
    assert explain(source, b"/x").write.what is Write.READ_ONLY


@pytest.mark.parametrize(
    ("created_by", "command"),
    [
        ("/bin/sh -c #(nop) ADD file:1 in / ", "ADD file:1 in /"),
        ("/bin/sh -c apt-get  update", "RUN apt-get update"),
        ("RUN /bin/sh -c make # buildkit", "RUN make"),
        ("COPY a b # buildkit", "COPY a b"),
        ("bazel build", "bazel build"),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_commands(created_by: object, command: str | None) -> None:
    assert command_of({"created_by": created_by}) == command


def test_a_history_that_does_not_fit_blames_nobody() -> None:
    assert layer_commands([{"created_by": "A"}], 2) == [None, None]
    assert layer_commands([{"created_by": "A"}, {"empty_layer": True}], 1) == ["A"]


def test_marks_of_aufs_are_asked_for_by_name(tmp_path: Path) -> None:
    lower = [File(b"gone"), File(b"d/below"), File(b"d/both"), File(b"here")]
    upper = [File(b".wh.gone"), File(b"d/.wh..wh..opq"), File(b"d/both"), File(b"both/.wh.x")]
    layers = build_stack(os.fsencode(tmp_path) + b"/s", [lower, upper], writable=False)
    source = plain_source(layers)
    assert says(explain(source, b"/gone")) == ["whiteout: deletes it", "file, 10B"]
    below = explain(source, b"/d/below")
    assert below.blame is not None and below.blame.how is How.OPAQUE
    assert explain(source, b"/d").steps[-1].verdicts[0].opaque
    assert explain(source, b"/.wh.gone").outcome is Outcome.ABSENT
    plain = explain(replace(source, aufs=False), b"/.wh.gone")
    assert plain.outcome is Outcome.FOUND
    assert explain(source, b"/" + b"n" * 300).outcome is Outcome.ABSENT


def test_no_directory_is_read_for_what_the_layers_say(
    said: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount says why while it serves: the largest directory must not hold its requests up."""

    def scan(part: object) -> None:
        raise AssertionError("a directory was read")

    monkeypatch.setattr("unionfs.union.reasons.scan", scan)
    assert said("/usr/share/doc/a").outcome is Outcome.HIDDEN
    assert said("/opt/tool").outcome is Outcome.HIDDEN
    assert said("/etc/motd").outcome is Outcome.FOUND

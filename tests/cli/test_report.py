"""image report: the page holds what is true, loads nothing, and is deaf to what names say."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.anatomy import COMMANDS, make_store
from tests.support.command import Cli
from tests.support.stores import add_image
from tests.support.tars import dir_, file, tar, whiteout
from unionfs.inspect.text import size
from unionfs.store.store import Store

_EVIL = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "<!--",
    "\x1b[2J\u202etxt",
    "' onfocus='alert(1)",
)
_COMMAND = "RUN </code></pre><script>alert(2)</script><style>*{display:none}</style> {{ 1 }}"
_EMPTY = {"meta", "link", "br", "input", "rect", "img"}


class Page(HTMLParser):
    """A page as a browser reads it: its elements with what is in scripts and styles, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._open[-1] == "li" != tag:
            self._open.pop()
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            self.raw.append((self._open[-1], data))
        else:
            self.text += data + " "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def map(self) -> dict:
        return json.loads(self.raw[1][1])

    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    root = tmp_path_factory.mktemp("report") / "store"
    make_store(root)
    with Store.open(str(root)) as store:
        # A slash ends a name, so that the first is a path of several.
        evil = [file(f"evil/{name}", b"x" * (100 + place)) for place, name in enumerate(_EVIL)]
        raw = file(b"evil/\xff\xfe", b"y" * 50)
        gone = [whiteout(f"evil/{name}") for name in _EVIL[1:3]]
        history = [{"created_by": _COMMAND, "created": "<b>now</b>"}, {"created_by": _COMMAND}]
        add_image(store, tar(dir_("evil"), *evil, raw), tar(*gone), names=["evil"], history=history)
        add_image(store, tar(dir_("d")), names=["bare"])
    return Cli(root)


def _page(cli: Cli, image: str) -> Page:
    return Page(cli("image", "report", image, "-o", "-"))


def test_what_it_says_is_what_the_other_commands_say(cli: Cli) -> None:
    page = _page(cli, "anatomy")
    words = page.words()
    waste = cli.json("image", "waste", "anatomy")
    assert f"{size(waste['wasted'])} never shows: {waste['percent']:.1f} % wasted" in words
    for command in COMMANDS:
        assert command in words
    steps = words[words.index("Layers and their commands") :]
    assert steps.index(COMMANDS[3]) < steps.index("ENV A=b") < words.index(COMMANDS[0])
    for row in cli.json("image", "tree", "anatomy")["layers"]:
        assert row["diff_id"] in words
    for one in waste["files"]:
        assert (
            f"{size(one['bytes'])} {one['path']} {one['layer']} {one['how']} by {one['hidden_by']}"
            in words
        )
    assert "1kB /app/data 2 never shows" in words
    assert "10B /opt/new 3 shows" in words


def test_the_map_adds_up(cli: Cli) -> None:
    drawn = _page(cli, "anatomy").map()
    waste = cli.json("image", "waste", "anatomy")
    sizes = {row["number"]: row["size"] for row in cli.json("image", "tree", "anatomy")["layers"]}
    by_layer = {int(node["n"].split(":")[0].split()[1]): node for node in drawn["layers"]["c"]}
    assert {number: node["b"] for number, node in by_layer.items()} == sizes
    for top in drawn.values():
        assert (top["b"], top["l"]) == (waste["size"], waste["wasted"])
        _adds_up(top)
    names = {node["n"]: node for node in drawn["whole"]["c"]}
    assert set(names) == {"app/", "bin/", "etc/", "opt/", "usr/"}
    assert (names["usr/"]["b"], names["usr/"]["l"]) == (300, 300)
    assert names["opt/"]["b"] == 60
    assert names["app/"]["c"][0]["n"] == "data"


def _adds_up(node: dict) -> None:
    children = node.get("c", ())
    if children:
        for key in ("b", "l", "f"):
            assert sum(child[key] for child in children) == node[key], node
        assert [child["b"] for child in children] == sorted(
            (c["b"] for c in children), reverse=True
        )
    for child in children:
        _adds_up(child)


@pytest.mark.parametrize("image", ["anatomy", "evil", "bare"])
def test_it_needs_nothing_but_itself(cli: Cli, image: str) -> None:
    page = _page(cli, image)
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "base", "form", "embed"), tag
        assert not {"src", "srcset", "style", "action", "data"} & attributes.keys(), (
            tag,
            attributes,
        )
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert str(attributes.get("href", "#")).startswith("#")
    policy = next(
        meta["content"] or ""
        for meta in page.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    (style_tag, style), _, (program_tag, program) = page.raw
    assert (style_tag, program_tag) == ("style", "script")
    assert "url(" not in style and "@import" not in style and "http" not in style + program
    for kind, text in (("style-src", style), ("script-src", program)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_who_cannot_see_the_map_has_the_same(cli: Cli) -> None:
    page = _page(cli, "anatomy")
    assert page.all("html") == [{"lang": "en"}]
    labelled = {ref for _, found in page.elements if (ref := found.get("aria-labelledby"))}
    assert labelled <= {found.get("id") for _, found in page.elements}
    assert all(cell.get("scope") for cell in page.all("th"))
    assert len([tag for tag, _ in page.elements if tag == "h1"]) == 1
    assert "layer 2: COPY app /app 1kB" in page.words()
    assert page.all("details")[0].get("open", "no") is None  # the program closes it


def test_no_name_gets_out_of_its_place(cli: Cli) -> None:
    page = _page(cli, "evil")
    assert [found.get("type") for found in page.all("script")] == ["application/json", None]
    assert (
        len(page.all("style")) == 1
        and not page.all(
            "b",
        )[0].keys()
    )
    assert "now" in page.words() and "<b>now</b>" in page.words()
    assert page.words().count(_COMMAND) >= 2
    for name in (*_EVIL[:4], _EVIL[5], "\\033[2J\\342\\200\\256txt", "\\377\\376"):
        assert f"/evil/{name}" in page.words(), name
    assert "\x1b" not in page.text and "\u202e" not in page.text
    drawn = json.dumps(page.map())
    assert "onerror" in drawn and "</script>" not in page.raw[1][1]
    assert not any(character in page.raw[1][1] for character in "<>&")


def test_an_image_without_files(cli: Cli) -> None:
    words = _page(cli, "bare").words()
    assert "Nothing: every file that a layer brings is there in a container." in words
    assert "The image has no files." in words


def test_where_it_goes(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert cli("image", "report", "anatomy", "-o", str(out)) == f"{out}\n"
    assert out.read_text() == cli("image", "report", "anatomy", "-o", "-")
    assert out.stat().st_mode & 0o777 == 0o644
    out.write_text("old")
    cli("image", "report", "bare", "--output", str(out))
    assert "bare" in out.read_text()


def test_what_it_refuses(cli: Cli, tmp_path: Path) -> None:
    missing = str(tmp_path / "no" / "x.html")
    assert missing in cli.fails("image", "report", "anatomy", "-o", missing)
    assert str(tmp_path) in cli.fails("image", "report", "anatomy", "-o", str(tmp_path))
    assert "nope" in cli.fails("image", "report", "nope", "-o", "-")
    cli.fails("image", "report", "anatomy", status=2)
    cli.fails("--json", "image", "report", "anatomy", "-o", "-", status=2)
    assert list(tmp_path.iterdir()) == []

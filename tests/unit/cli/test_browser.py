"""The explorer, driven as its users do: keys in, what stands on the screen out."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import Label, OptionList, Static

from tests.support.anatomy import COMMANDS, make_store
from tests.support.examples import FULL
from tests.support.explaining import plain_source
from tests.support.stacks import File, Layers, build_stack
from tests.support.tars import file, tar
from unionfs.cli.browser.app import Browser, Subject
from unionfs.cli.browser.tree import FileTree
from unionfs.container.layers import whole_image
from unionfs.container.subject import of_image
from unionfs.store.store import Store

MANY = 100_000 if FULL else 3_000
_SECONDS = 20
Steps = Callable[["Screen"], Awaitable[None]]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    root = tmp_path_factory.mktemp("browser") / "store"
    make_store(root)
    with Store.open(str(root)) as store:
        image = store.images.resolve("anatomy")
        return Subject(of_image(store, image), *whole_image(store, image))


class Screen:
    """What stands where."""

    def __init__(self, app: Browser, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def tree(self) -> FileTree:
        return self.app.query_one(FileTree)

    def lines(self) -> list[str]:
        """The lines of the tree that can be scrolled to, below the root's."""
        return [
            self.tree.get_node_at_line(line).label.plain
            for line in range(1, self.tree.last_line + 1)
        ]

    def layers(self) -> list[str]:
        options = self.app.query_one("#layers", OptionList)
        return [str(options.get_option_at_index(at).prompt) for at in range(options.option_count)]

    def said(self) -> str:
        console = Console(width=100, file=io.StringIO())
        console.print(self.app.query_one("#words", Static).content)
        return console.file.getvalue()

    async def choose_layer(self, number: int) -> None:
        labels = [name.number for name in self.app._source.layers]
        self.app.query_one("#layers", OptionList).highlighted = labels.index(number)
        await self.pilot.pause()

    async def until(self, done: Callable[[], object]) -> None:
        """Wait for a worker."""
        for _ in range(_SECONDS * 50):
            await self.pilot.pause(0.02)
            if done():
                return
        raise AssertionError(f"not in {_SECONDS} seconds: {self.lines()}")


def drive(subject: Subject, steps: Steps, size: tuple[int, int] = (120, 40)) -> None:
    """Run the explorer and *steps* in it."""

    async def run() -> None:
        app = Browser(subject)
        async with app.run_test(size=size) as pilot:
            await steps(Screen(app, pilot))

    asyncio.run(run())


def test_layers_with_command_size_and_what_they_did(subject: Subject) -> None:
    async def steps(screen: Screen) -> None:
        await screen.until(lambda: "A" in screen.layers()[-1].partition("\n")[0])
        said = [text for text in screen.layers() if text.startswith("layer")]
        assert [text.partition("\n")[2] for text in said] == list(COMMANDS[::-1])
        assert said[1].startswith("layer 3  18B A1 C1 D5\n")
        assert said[-1].startswith("layer 1  377B A12\n")

    drive(subject, steps)


def test_the_tree_as_of_a_layer_and_only_its_changes(subject: Subject) -> None:
    async def steps(screen: Screen) -> None:
        await screen.choose_layer(3)
        assert screen.lines() == ["  ETC/", "· app/", "  bin/", "· etc/", "· opt/", "· usr/"]
        await screen.pilot.press("c")
        assert screen.lines() == ["· app/", "· etc/", "· opt/", "· usr/"]
        assert screen.tree.border_title == "Files: what layer 3 changes"
        await screen.pilot.press("down", "enter")
        assert screen.lines()[:3] == ["· app/", "D data  1kB", "· etc/"]
        await screen.choose_layer(2)  # what is open stays open
        assert screen.lines() == ["A ETC/", "A app/", "A conf@", "A data  1kB", "A run  4B"]

    drive(subject, steps)


def test_the_path_under_the_cursor_is_explained(subject: Subject) -> None:
    async def steps(screen: Screen) -> None:
        await screen.choose_layer(3)
        screen.tree.go_to(b"/usr/share/doc")
        await screen.until(lambda: "is deleted by layer 3" in screen.said())
        assert "`RUN rm -rf /usr/share/doc" in screen.said()
        assert "layer 1  directory; deleted by layer 3" in screen.said()
        screen.tree.go_to(b"/etc/motd")
        await screen.until(lambda: "from layer 3" in screen.said())
        await screen.choose_layer(4)
        await screen.until(lambda: "from layer 4" in screen.said())

    drive(subject, steps)


def test_the_largest_first(subject: Subject) -> None:
    async def steps(screen: Screen) -> None:
        await screen.choose_layer(2)
        await screen.pilot.press("s")
        await screen.until(lambda: "  usr/  300B" in screen.lines())
        assert screen.lines() == [
            "A app/  1kB", "  usr/  300B", "  opt/  50B", "  etc/  19B", "  bin/  8B", "A ETC/  0B",
        ]  # fmt: skip
        await screen.pilot.press("s")
        assert screen.lines()[0] == "A ETC/  0B"

    drive(subject, steps)


def test_searching(subject: Subject) -> None:
    async def steps(screen: Screen) -> None:
        await screen.pilot.press("slash", *"MOT", "enter")
        found = screen.app.screen.query_one(OptionList)
        await screen.until(lambda: found.option_count)
        assert str(screen.app.screen.query_one("#count", Label).content) == "1 found"
        await screen.pilot.press("enter")
        await screen.until(lambda: screen.tree.chosen() == b"/etc/motd")
        await screen.pilot.press("slash", "x", "escape")
        assert screen.tree.chosen() == b"/etc/motd"

    drive(subject, steps)


def test_jumping_to_waste(subject: Subject) -> None:
    """To the layer that ships it, where it shows; what hid that is shown again."""

    async def steps(screen: Screen) -> None:
        await screen.until(lambda: screen.app._totals)
        await screen.pilot.press("c", "w")
        lines = screen.app.screen.query_one(OptionList)
        assert str(lines.get_option_at_index(0).prompt) == (
            "    1kB  of layer 2, deleted by layer 3\n/app/data"
        )
        await screen.pilot.press("down", "enter")
        await screen.until(lambda: screen.tree.chosen() == b"/usr/share/doc/b")
        assert screen.tree.border_title == "Files: what layer 1 changes"

    drive(subject, steps)


def test_names_are_no_markup_and_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    names = ("[bold red]x", "\x1b[2J", "[@click=app.quit]q")
    with Store.open(str(tmp_path / "store"), create=True) as store:
        from tests.support.stores import add_image

        history = [{"created_by": "RUN [red]\x1b[2J[/]"}]
        image = add_image(store, tar(*(file(name, b"1") for name in names)), history=history)
        subject = Subject(of_image(store, image), *whole_image(store, image))

    async def steps(screen: Screen) -> None:
        assert set(screen.lines()) == {
            "A [bold red]x  1B", "A \\033[2J  1B", "A [@click=app.quit]q  1B",
        }  # fmt: skip
        assert any("RUN [red]\\033[2J[/]" in text for text in screen.layers())
        for name in names:
            screen.tree.go_to(b"/" + name.encode())
            shown = name.replace("\x1b", "\\033")
            await screen.until(lambda shown=shown: f"/{shown} in image" in screen.said())
        await screen.pilot.press("slash", "left_square_bracket", "enter")
        found = screen.app.screen.query_one(OptionList)
        await screen.until(lambda: found.option_count == 3)

    drive(subject, steps)


def _plain(layers: Layers) -> Subject:
    return Subject(plain_source(layers, aufs=False))


def test_an_upper_that_changes_meanwhile(tmp_path: Path) -> None:
    layers = build_stack(os.fsencode(tmp_path) + b"/s", [[File(b"d/one"), File(b"d/two")]])
    assert layers.upper is not None
    upper = Path(os.fsdecode(layers.upper))

    async def steps(screen: Screen) -> None:
        assert screen.lines() == ["  d/"]
        (upper / "new").write_text("12345")
        (upper / "d").mkdir()
        (upper / "d/one").write_text("changed")
        await screen.pilot.press("r")
        assert screen.lines() == ["· d/", "A new  5B"]
        await screen.until(lambda: screen.layers()[0] == "upper  12B")
        await screen.pilot.press("down", "enter")
        assert screen.lines() == ["· d/", "C one  7B", "  two  10B", "A new  5B"]
        await screen.pilot.press("w")
        assert screen.app.screen is screen.app.screen_stack[0]  # nothing to jump to
        screen.tree.go_to(b"/d/one")
        await screen.until(lambda: "changes it in place, in the upper" in screen.said())

    drive(_plain(layers), steps)


def test_a_directory_of_many_names_opens_at_once(tmp_path: Path) -> None:
    """Only what is looked at is read; what is not listed can be gone to all the same."""
    layers = build_stack(os.fsencode(tmp_path) + b"/s", [[File(b"other/x")]])
    many = Path(os.fsdecode(layers.lowers[0])) / "many"
    many.mkdir()
    for number in range(MANY):
        (many / f"{number}").touch()

    async def steps(screen: Screen) -> None:
        assert screen.lines() == ["  many/", "  other/"]
        await screen.pilot.press("down", "enter")
        assert len(screen.lines()) == 2 + 2000 + 1
        assert screen.lines()[2001] == f"… {MANY - 2000} more names: / finds them"
        screen.tree.go_to(b"/many/999")
        await screen.until(lambda: screen.tree.chosen() == b"/many/999")
        assert screen.lines()[2001:2003] == [
            "  999  0B",
            f"… {MANY - 2000} more names: / finds them",
        ]

    drive(_plain(layers), steps)


def seen(tree: FileTree) -> bool:
    """Return whether the cursor's line is among those that are drawn."""
    first = tree.scroll_y
    return first <= tree.cursor_line < first + tree.scrollable_content_region.height


def test_what_is_gone_to_is_seen_on_a_small_terminal(tmp_path: Path) -> None:
    """Also where a scroll bar appears below, for a name that is too long."""
    names = [f"d/{'long-' * 30}", *(f"d/x/{number:03}" for number in range(50))]
    layers = build_stack(
        os.fsencode(tmp_path) + b"/s", [[File(name.encode()) for name in names]]
    )  # fmt: skip

    async def steps(screen: Screen) -> None:
        tree = screen.tree
        await screen.until(
            lambda: screen.app.query_one("#layers").size.width < 30 < tree.size.width
        )
        await screen.pilot.press("slash", *"049", "enter")
        await screen.until(lambda: isinstance(screen.app.focused, OptionList))
        await screen.pilot.press("enter")
        await screen.until(lambda: tree.show_horizontal_scrollbar and seen(tree))

    drive(_plain(layers), steps, size=(80, 24))

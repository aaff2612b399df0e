"""Bars on a terminal, and silence off it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from unionfs.cli.progress import LayerBars, import_progress
from unionfs.digest import Digest
from unionfs.image.progress import Quiet

LAYER = Digest.of(b"layer")


@pytest.mark.parametrize(("quiet", "terminal"), [(False, False), (True, True)])
def test_it_is_mute_off_a_terminal_and_when_told(
    quiet: bool, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    with import_progress(quiet=quiet) as progress:
        assert isinstance(progress, Quiet)


def test_on_a_terminal_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", screen)
    with import_progress(quiet=False) as progress:
        progress.layer_started(LAYER, 100)
        progress.advanced(LAYER, 100)
        progress.layer_done(LAYER, stored_before=False)
    assert f"layer {LAYER.short}" in screen.getvalue()


def test_each_layer_has_a_bar_and_then_a_line() -> None:
    screen = io.StringIO()
    bars = Bars(console=Console(file=screen))
    progress = LayerBars(bars)
    progress.layer_started(LAYER, 100)
    progress.layer_started(None, None)
    progress.advanced(LAYER, 30)
    progress.advanced(LAYER, 30)
    assert [(task.completed, task.total) for task in bars.tasks] == [(60, 100), (0, None)]
    progress.layer_done(LAYER, stored_before=False)
    progress.layer_done(None, stored_before=False)
    progress.layer_done(Digest.of(b"other"), stored_before=True)
    assert bars.tasks == []
    assert screen.getvalue().splitlines() == [
        f"layer {LAYER.short}: stored",
        "root filesystem: stored",
        f"layer {Digest.of(b'other').short}: stored before",
    ]

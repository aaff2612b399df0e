"""The systemd units of docs/use.md, as systemd reads them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "use.md").read_text()
UNITS = dict(re.findall(r"^```ini\n# (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


def verified(place: Path) -> tuple[int, str]:
    """Return what systemd-analyze says of the units in *place*, which is nothing if all is well."""
    files = sorted(map(str, place.iterdir()))
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    for name, text in UNITS.items():
        # The program need not be installed here; that it is run is what counts.
        (tmp_path / name).write_text(text.replace("/usr/local/bin/unionfs", "/bin/true"))
    return tmp_path


def test_they_are_right(units: Path) -> None:
    assert set(UNITS) == {"mnt.mount", "unionfs.socket", "unionfs.service"}
    assert verified(units) == (0, "")


def test_what_is_wrong_is_found(units: Path) -> None:
    service = units / "unionfs.service"
    service.write_text(service.read_text().replace("KillMode=process", "KillMode=proces"))
    assert "kill mode" in verified(units)[1]

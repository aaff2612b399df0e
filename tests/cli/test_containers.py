"""create, ls, inspect, diff, rm, df: containers as things, with nothing mounted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.command import Cli
from tests.support.images import Layout
from tests.support.tars import dir_, file, tar
from unionfs.store.store import Store


def test_create_prints_the_id_and_copies_nothing(cli: Cli) -> None:
    printed = cli("create", "tiny", "--name", "one")
    assert re.fullmatch(r"[0-9a-f]{64}\n", printed)
    home = cli.root / "containers" / printed.strip()
    assert list((home / "upper").iterdir()) == []
    assert cli.json("create", "tiny", "--name", "two")["name"] == "two"


def test_a_container_without_a_name_gets_one(cli: Cli) -> None:
    assert re.fullmatch(r"[a-z]+_[a-z]+", cli.json("create", "tiny")["name"])


def test_names_ids_and_prefixes(cli: Cli) -> None:
    one = cli("create", "tiny", "--name", "one").strip()
    for text in ("one", one, one[:12], one[:3]):
        assert cli.json("inspect", text)["id"] == one


def test_an_ambiguous_prefix_is_refused(cli: Cli) -> None:
    with Store.open(str(cli.root)) as store:
        image = store.images.resolve("tiny")
        ids = [store.containers.create(image).id for _ in range(17)]
        twice = next(d for d in "0123456789abcdef" if sum(i.startswith(d) for i in ids) > 1)
    assert "several container IDs" in cli.fails("inspect", twice)
    with Store.open(str(cli.root)) as store:
        for one in ids:
            store.containers.remove(one)


def test_the_table_is_aligned_and_its_columns_known(cli: Cli) -> None:
    one = cli("create", "tiny", "--name", "a-rather-long-name").strip()
    cli("create", "tiny", "--name", "b")
    head, *rows = cli("ls").splitlines()
    assert head.split("   ")[0] == "CONTAINER ID"
    for row, name in zip(rows, ("b", "a-rather-long-name"), strict=True):
        assert row[head.index("NAME") :].rstrip() == name
        assert row[head.index("IMAGE") :].startswith("tiny:latest ")
        assert row[head.index("STATUS") :].startswith("created ")
    assert rows[1].startswith(one[:12] + " ")
    assert cli("ps", "-q") == cli("ls", "-q")  # the whole table says how old things are


def test_an_empty_listing_is_its_header(cli: Cli) -> None:
    assert cli("ls") == "CONTAINER ID   IMAGE   CREATED   STATUS   NAME   MOUNT POINT\n"
    assert cli("ls", "-q") == ""
    assert cli.json("ls") == []


def test_json_may_stand_behind_the_command(cli: Cli) -> None:
    assert cli("ls", "--json") == cli("--json", "ls") == "[]\n"


def test_inspect_tells_where_things_are(cli: Cli) -> None:
    cli("create", "tiny", "--name", "one")
    document = cli.json("inspect", "one")
    assert document["image"] == "tiny:latest"
    assert document["status"] == "created"
    assert document["mounts"] == []
    assert Path(document["upper"]).is_dir()
    assert [Path(lower).is_dir() for lower in document["lowers"]] == [True]
    text = cli("inspect", "one")
    assert re.search(r"^Name: +one$", text, re.MULTILINE)
    assert document["upper"] in text


def test_a_container_that_changed_nothing_has_no_diff(cli: Cli) -> None:
    cli("create", "tiny", "--name", "one")
    assert cli("diff", "one") == ""
    assert cli.json("diff", "one") == []


def test_rm_takes_the_directory_away_and_leaves_the_image(cli: Cli) -> None:
    home = cli.root / "containers" / cli("create", "tiny", "--name", "one").strip()
    assert cli("rm", "one") == "one\n"
    assert not home.exists()
    assert len(cli.json("image", "ls")) == 1


def test_rm_of_several_goes_on_after_an_error(cli: Cli) -> None:
    cli("create", "tiny", "--name", "one")
    cli("create", "tiny", "--name", "two")
    done = cli.run("rm", "one", "nope", "two", "../one")
    assert (done.returncode, done.stdout) == (1, "one\ntwo\n")
    assert done.stderr.splitlines() == [
        "unionfs: error: no such container: nope",
        "unionfs: error: no such container: ../one",
    ]
    assert cli.json("ls") == []


@pytest.mark.parametrize("lost", ["", "work", "upper", "merged"])
def test_rm_takes_away_what_somebody_has_damaged(cli: Cli, lost: str) -> None:
    home = cli.root / "containers" / cli("create", "tiny", "--name", "one").strip()
    shutil.rmtree(home / lost)
    assert cli("rm", "one") == "one\n"
    assert not home.exists()
    assert cli.json("ls") == []


def test_df_counts_layers_once_and_uppers_by_blocks(cli: Cli) -> None:
    home = cli.root / "containers" / cli("create", "tiny", "--name", "one").strip()
    cli("create", "tiny", "--name", "two")
    (home / "upper/big").write_bytes(b"x" * (1 << 20))
    with open(home / "upper/sparse", "wb") as file:
        file.truncate(1 << 30)
    document = cli.json("df")
    own = {one["name"]: one["own"] for one in document["containers"]}
    assert 1 << 20 <= own["one"] < 2 << 20
    assert own["two"] < 1 << 16
    one = next(one for one in document["containers"] if one["name"] == "one")
    assert one["own_apparent"] == (1 << 20) + (1 << 30)
    assert own["one"] + (4 << 10) <= one["removing_frees"] <= own["one"] + (64 << 10)
    image = cli.json("image", "ls")[0]
    (found,) = document["images"]
    assert found["own_on_disk"] >= image["size"]
    assert found | {"own_on_disk": 0} == {
        "id": image["id"],
        "names": ["tiny:latest"],
        "shared": 0,
        "shared_on_disk": 0,
        "own": image["size"],
        "own_on_disk": 0,
        "blobs_on_disk": 0,
        "removing_frees": None,
        "containers": 2,
    }
    assert document["layer_bytes"] == image["size"]
    assert document["container_bytes"] == own["one"] + own["two"]
    printed = cli("df")
    assert "Total on disk, each layer once: " in printed
    assert "(in use)" in printed


def test_df_says_what_removing_frees(tmp_path: Path) -> None:
    """Which is what the disk has more then, as far as the database lets itself be foreseen."""
    store = Cli(tmp_path / "store")
    shared = tar(dir_("d", mode=0o711), file("d/shared", os.urandom(300_000)))
    top = tar(file("d/top", os.urandom(200_000)))  # which does not say what d is: a fix-up does
    for name, layers in (("one", [shared]), ("two", [shared, top])):
        layout = Layout(tmp_path / name)
        layout.index(layout.image(layers))
        store("image", "import", f"oci:{layout.path}", "--name", name)
    (store.root / "tmp/dead").mkdir()
    document = store.json("df")
    two = next(one for one in document["images"] if one["names"] == ["two:latest"])
    assert (two["shared"], two["own"]) == (300_000, 200_000)
    assert document["blobs"] == 2
    assert 500_000 < two["blobs_on_disk"] == document["blob_bytes_on_disk"]
    assert document["garbage_bytes_on_disk"] == 4096
    assert "Nothing refers to 4.1kB: unionfs gc" in store("df")
    before = du(store.root) - 4096
    assert os.listdir(store.root / "fixups/sha256")
    store("image", "rm", "two")
    assert before - du(store.root) == two["removing_frees"] > 400_000


def du(path: Path) -> int:
    """Bytes on disk of a store, but for its database."""
    words = ["du", "--block-size=1", "-s", "--exclude=store.db*", str(path)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0])


@pytest.mark.parametrize("words", [["-q", "image", "ls"], ["layer", "ls", "--quiet"], ["ls", "-q"]])
def test_quiet_listings_are_ids_for_scripts(cli: Cli, words: list[str]) -> None:
    cli("create", "tiny")
    assert re.fullmatch(r"[0-9a-f]{12}\n", cli(*words))


def test_output_to_a_closed_pipe_is_no_traceback(cli: Cli) -> None:
    process = cli.start("image", "inspect", "tiny", stderr=-1)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) in (0, 141)

"""image pull and push: through skopeo, from and to a real registry."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import kernel, leftovers
from tests.support.command import Cli
from tests.support.images import MACHINE, Layout, have, named, on, sha256, skopeo_copy
from tests.support.registry import (
    CREDENTIALS,
    PLAIN,
    PROGRAM,
    Registry,
    Relay,
    wait_until,
    without_skopeo,
)
from tests.support.tars import file, tar

pytestmark = pytest.mark.skipif(
    have("skopeo", PROGRAM) is not None, reason=str(have("skopeo", PROGRAM))
)
MB = 1 << 20
BASE = tar(file("base", b"below"))
BIG = tar(file("big", random.Random(6).randbytes(6 * MB)))
SMALL = tar(file("small", b"above"))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The images ``base``, ``web`` (a big layer and a small one more), ``many``, ``plain``."""
    made = Layout(tmp_path_factory.mktemp("layouts") / "layout")
    web = [BASE, BIG, SMALL]
    many = made.nested(
        made.image([BASE], **on("riscv64", system="linux")),
        made.image([SMALL], **on(MACHINE)),
    )
    many["annotations"] = named("many")["annotations"]
    return made.index(
        made.image([BASE], **named("base")),
        made.image(web, **named("web")),
        made.image([SMALL, BASE], suffix="", **named("plain")),
        many,
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, layout: Layout) -> Iterator[Registry]:
    """A registry that has them all, and ``docker``: ``web`` with manifests of Docker's schema 2."""
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        for name in ("base", "web", "plain", "many"):
            options = ["--dest-tls-verify=false", "--all", "--preserve-digests"]
            skopeo_copy(f"oci:{layout.path}:{name}", f"docker://{running.name(name)}", *options)
        options = ["--dest-tls-verify=false", "--format", "v2s2"]
        skopeo_copy(f"oci:{layout.path}:web", f"docker://{running.name('docker')}", *options)
        yield running


@pytest.fixture
def relay(registry: Registry) -> Iterator[Relay]:
    with Relay(registry) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Cli:
    """A store of one's own, not there yet."""
    return Cli(tmp_path / "store")


def pull(cli: Cli, reference: str, *words: str) -> str:
    return cli("image", "pull", PLAIN, reference, *words).strip()


def raw(registry: Registry, name: str) -> bytes:
    """Return the manifest that the registry has."""
    words = ["skopeo", "inspect", "--raw", PLAIN, f"docker://{registry.name(name)}"]
    return subprocess.run(words, capture_output=True, check=True).stdout


def web_layers(registry: Registry) -> list[str]:
    """Return the digests of the layers of ``web``: that of ``base``, the big one, the small one."""
    return [layer["digest"] for layer in json.loads(raw(registry, "web"))["layers"]]


def fetched(relay: Relay) -> set[str]:
    """Return the digests of what was fetched since this was asked last."""
    found = {one.rpartition("/")[2] for one in relay.asked("GET", "/blobs/")}
    relay.requests.clear()
    return found


def as_before(cli: Cli) -> None:
    """Nothing is in the store, and nothing half-made."""
    assert cli.json("image", "ls") == cli.json("layer", "ls") == []
    for place in ("tmp", "locks", "blobs/sha256", "layers/sha256"):
        assert os.listdir(cli.root / place) == [], place


def test_pull_stores_the_image_and_its_blobs(own: Cli, registry: Registry, layout: Layout) -> None:
    printed = pull(own, registry.name("web"))
    (image,) = own.json("image", "ls")
    manifest = json.loads(raw(registry, "web"))
    assert printed == image["id"] == manifest["config"]["digest"]
    assert image["names"] == [registry.name("web:latest")]
    kept = {f"sha256:{name}" for name in os.listdir(own.root / "blobs/sha256")}
    assert kept == {layer["digest"] for layer in manifest["layers"]}
    (big,) = [one for one in own.json("layer", "ls") if one["diff_id"] == sha256(BIG)]
    content = Path(own.json("layer", "inspect", big["diff_id"])["path"]) / "big"
    assert content.read_bytes() == BIG[512 : 512 + 6 * MB]
    assert os.listdir(own.root / "tmp") == []


def test_pull_fetches_only_what_is_missing(own: Cli, registry: Registry, relay: Relay) -> None:
    base, big, small = web_layers(registry)
    pull(own, relay.name("base"))
    assert fetched(relay) & {base, big, small} == {base}
    pull(own, relay.name("web"))
    assert fetched(relay) & {base, big, small} == {big, small}
    pull(own, relay.name("web"), "--name", "again")
    assert fetched(relay) & {base, big, small} == set()
    web = own.json("image", "inspect", "again")
    assert sorted(web["names"]) == sorted(["again:latest", relay.name("web:latest")])


@pytest.mark.parametrize("name", ["base", "docker", "plain", "web"])
def test_there_and_back(own: Cli, registry: Registry, tmp_path: Path, name: str) -> None:
    """A registry's image, pushed, is byte for byte what it was; another tool reads it back."""
    image = pull(own, registry.name(name))
    target = registry.name(f"back/{name}:1")
    digest = own("image", "push", PLAIN, image, target).strip()
    assert digest == sha256(raw(registry, f"back/{name}:1")) == sha256(raw(registry, name))
    if name != "docker":  # skopeo writes another config for those to a layout
        skopeo_copy(f"docker://{target}", f"oci:{tmp_path}/out:x", "--src-tls-verify=false")
        other = Cli(tmp_path / "other")
        assert other("image", "import", f"oci:{tmp_path}/out:x").strip() == image


def test_export_goes_to_a_registry_and_back(own: Cli, registry: Registry, tmp_path: Path) -> None:
    image = pull(own, registry.name("web"))
    own("image", "export", image, f"oci:{tmp_path}/out:x")
    options = ("--dest-tls-verify=false", "--preserve-digests")
    target = registry.name("exported:1")
    skopeo_copy(f"oci:{tmp_path}/out:x", f"docker://{target}", *options)
    own("image", "rm", image)
    as_before(own)
    assert pull(own, target) == image


def test_push_makes_layers_again_whose_blobs_were_not_kept(own: Cli, registry: Registry) -> None:
    image = pull(own, registry.name("base"), "--no-keep-blobs")
    assert os.listdir(own.root / "blobs/sha256") == []
    own.run("image", "push", PLAIN, image, registry.name("made:1"))  # may note another digest
    assert json.loads(raw(registry, "made:1"))["config"]["digest"] == image
    assert os.listdir(own.root / "tmp") == []
    other = Cli(own.root.parent / "other")
    assert pull(other, registry.name("made:1")) == image


def test_push_sends_only_what_is_missing(own: Cli, relay: Relay, layout: Layout) -> None:
    for name in ("base", "web"):
        own("image", "import", f"oci:{layout.path}:{name}", "--name", name)
    sent = []
    for name, target in (("base", "sent:1"), ("web", "sent:2"), ("web", "sent:3")):
        own("image", "push", PLAIN, name, relay.name(target))
        sent.append(len(relay.asked("PATCH", "/sent/")))
        relay.requests.clear()
    assert sent == [2, 3, 0]  # with the config of each image


def test_one_of_several_platforms(own: Cli, registry: Registry) -> None:
    pull(own, registry.name("many"))
    assert own.json("layer", "ls")[0]["diff_id"] == sha256(SMALL)
    pull(own, registry.name("many"), "--platform", "linux/riscv64", "--name", "other")
    assert own.json("image", "inspect", "other")["layers"][0]["diff_id"] == sha256(BASE)
    why = own.fails("image", "pull", PLAIN, registry.name("many"), "--platform", "linux/s390x")
    assert "no image for linux/s390x there; there is" in why


def test_by_digest(own: Cli, registry: Registry) -> None:
    digest = sha256(raw(registry, "base"))
    pull(own, registry.name(f"base@{digest}"))
    assert own.json("image", "ls")[0]["names"] == []
    pull(own, registry.name(f"base:v1@{digest}"))
    assert own.json("image", "ls")[0]["names"] == [registry.name("base:v1")]
    target = registry.name(f"base@{digest}")
    assert "digest" in own.fails("image", "push", PLAIN, "base:v1", target, status=2)


def test_who_may_not_is_told(own: Cli, tmp_path: Path, layout: Layout) -> None:
    with Registry(tmp_path, with_auth=True) as closed:
        name = closed.name("base")
        right = ("--creds", CREDENTIALS)
        own("image", "import", f"oci:{layout.path}:base", "--name", "base")
        for words in ((), ("--creds", "ann:wrong")):
            for call in (("push", "base", name), ("pull", name)):
                why = own.fails("image", call[0], PLAIN, *words, *call[1:])
                assert name in why
                assert "(--creds or --authfile says who you are)" in why
                assert "wrong" not in why
        own("image", "push", PLAIN, *right, "base", name)
        own("image", "pull", PLAIN, *right, name)
        authfile = tmp_path / "auth.json"
        login = ["skopeo", "login", PLAIN, "-u", "ann", "--password-stdin"]
        subprocess.run(
            [*login, "--authfile", authfile, f"127.0.0.1:{closed.port}"],
            input=b"secret", stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        own("image", "push", PLAIN, "--authfile", str(authfile), "base", closed.name("other"))
        own("image", "pull", PLAIN, "--authfile", str(authfile), closed.name("other"))


def _longer(data: bytes) -> bytes:
    return data + bytes(1 << 17)  # more than a pipe holds


@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-9] + b"\0" + data[-8:], lambda data: data[: len(data) // 2], _longer],
    ids=["other", "shorter", "longer"],
)
def test_a_registry_that_gives_something_else(
    own: Cli, tmp_path: Path, layout: Layout, change: Callable[[bytes], bytes]
) -> None:
    with Registry(tmp_path) as lying:
        target = f"docker://{lying.name('web')}"
        skopeo_copy(f"oci:{layout.path}:web", target, "--dest-tls-verify=false")
        digest = web_layers(lying)[1].removeprefix("sha256:")
        (blob,) = lying.data.glob(f"**/blobs/sha256/*/{digest}/data")
        blob.write_bytes(change(blob.read_bytes()))
        why = own.fails("image", "pull", PLAIN, lying.name("web"))
    assert lying.name("web") in why
    assert "corrupted blob" in why or "is longer than" in why
    as_before(own)


def test_what_is_not_there(own: Cli, registry: Registry, tmp_path: Path) -> None:
    for name in ("nothing:1", "base:nothing"):
        why = own.fails("image", "pull", PLAIN, registry.name(name))
        assert registry.name(name) in why
        assert "unknown" in why
    assert "allows plain HTTP" in own.fails("image", "pull", registry.name("base"))
    gone = Registry(tmp_path).name("base")  # never started
    assert "connection refused" in own.fails("image", "pull", PLAIN, gone)
    no_file = ("--authfile", str(tmp_path / "none"))
    why = own.fails("image", "pull", PLAIN, *no_file, registry.name("base"))
    assert why == f"{tmp_path / 'none'}: No such file or directory"
    as_before(own)
    pull(own, registry.name("base"))
    assert "connection refused" in own.fails("image", "push", PLAIN, registry.name("base"), gone)
    env = {**own.env, **without_skopeo(tmp_path / "bin")}
    for words in (("pull", gone), ("push", registry.name("base"), gone)):
        assert "skopeo is not installed" in own.fails("image", *words, env=env)


@pytest.mark.parametrize("word", ["UPPER", "a b", "a@sha256:12", "docker://", "a:b:c"])
def test_what_is_no_reference(own: Cli, word: str) -> None:
    own.fails("image", "pull", word, status=2)
    own.fails("image", "pull", "a", "--tls-verify=perhaps", status=2)


def test_progress_on_a_terminal_only(own: Cli, registry: Registry) -> None:
    """(That nothing is said off a terminal, every other test here sees.)"""
    for words in (("pull", registry.name("base")), ("push", "base", registry.name("seen"))):
        ours, theirs = os.openpty()
        process = own.start("image", words[0], PLAIN, *words[1:], stderr=theirs)
        os.close(theirs)
        assert process.wait(60) == 0
        process.stdout.close()
        assert os.read(ours, 1 << 16)
        os.close(ours)


def test_killed_in_the_middle_and_started_again(own: Cli, registry: Registry, relay: Relay) -> None:
    """What was complete is not fetched again; what was not, leaves nothing."""
    relay.most = 2 * MB  # the big layer stays in the middle, the others come
    process = own.start("image", "pull", PLAIN, relay.name("web"))
    assert relay.holding.wait(30)
    layers = own.root / "layers/sha256"
    wait_until(lambda: len(os.listdir(layers)) == 2)
    process.kill()
    process.communicate(timeout=30)
    assert own.json("image", "ls") == []
    relay.most = None
    base, big, small = web_layers(registry)
    assert fetched(relay) >= {base, big, small}
    image = pull(own, relay.name("web"))
    assert fetched(relay) & {base, big, small} == {big}
    assert own.json("image", "ls")[0]["id"] == image
    assert os.listdir(own.root / "tmp") == []


def test_told_to_end_in_the_middle(own: Cli, relay: Relay) -> None:
    """Nothing stays, though the registry says nothing any more."""
    relay.most = 2 * MB
    process = own.start("image", "pull", PLAIN, relay.name("web"))
    assert relay.holding.wait(30)
    layers = own.root / "layers/sha256"
    wait_until(lambda: len(os.listdir(layers)) == 2)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    as_before(own)


def test_the_registry_goes_in_the_middle(own: Cli, registry: Registry) -> None:
    with Relay(registry) as relay:
        relay.most = 2 * MB
        words = ("image", "pull", PLAIN, relay.name("web"))
        process = own.start(*words, stderr=subprocess.PIPE)
        assert relay.holding.wait(30)
        relay.cut()
        out, err = process.communicate(timeout=50)
    assert (process.returncode, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith(f"unionfs: error: {relay.name('web')}")
    as_before(own)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cli]:
    """A store, not there yet, on a disk of 9 MiB."""
    if not leftovers.in_own_namespace():
        kernel.own_mount_namespace()
    place = tmp_path / "small"
    place.mkdir()
    kernel.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=9m,mode=0700")
    yield Cli(place / "store")
    kernel.umount(os.fsencode(place), kernel.MNT_DETACH)


@pytest.mark.needs_root
def test_a_disk_that_a_pull_fills(small: Cli, registry: Registry) -> None:
    why = small.fails("image", "pull", PLAIN, registry.name("web"))
    assert "no space left in the store" in why
    as_before(small)
    pull(small, registry.name("base"))


@pytest.mark.needs_root
def test_a_disk_that_a_push_or_an_export_fills(small: Cli, registry: Registry) -> None:
    """Layers that have to be compressed anew do not fit beside their trees."""
    image = pull(small, registry.name("web"), "--no-keep-blobs")
    before = sorted(small.root.rglob("*"))
    why = small.fails("image", "push", PLAIN, image, registry.name("full:1"))
    assert "no space left in the store" in why
    assert "No space left" in small.fails("image", "export", image, f"oci:{small.root.parent}/out")
    assert sorted(small.root.rglob("*")) == before
    assert os.listdir(small.root.parent) == ["store"]
    other = small.root.parents[1] / "out"
    small.run("image", "export", image, f"oci:{other}")
    assert (other / "index.json").exists()


def test_a_push_killed_in_the_middle_and_started_again(
    own: Cli, registry: Registry, relay: Relay, layout: Layout
) -> None:
    own("image", "import", f"oci:{layout.path}:web", "--name", "web")
    relay.swallows = b"PATCH"  # the first layer never arrives
    process = own.start("image", "push", PLAIN, "web", relay.name("again:1"))
    assert relay.holding.wait(30)
    process.kill()
    process.communicate(timeout=30)
    relay.cut()
    assert len(os.listdir(own.root / "tmp")) > 0
    own("image", "push", PLAIN, "web", registry.name("again:1"))
    assert raw(registry, "again:1") == raw(registry, "web")
    assert os.listdir(own.root / "tmp") == []

"""Images for tests: made by the tools that people use, and made byte by byte to be wrong.

    layout = Layout(path)
    layout.index(layout.image([tar(file("a", b"1"))]))

``Layout`` and ``docker_archive`` use nothing of the code under test. The functions at the end run
real tools; each returns where the image is.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard

from tests.support.tars import file, symlink, tar

OCI = "application/vnd.oci.image."
INDEX = OCI + "index.v1+json"
MANIFEST = OCI + "manifest.v1+json"
CONFIG = OCI + "config.v1+json"
LAYER = OCI + "layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"
Json = dict[str, Any]
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "+gzip": lambda data: gzip.compress(data, mtime=0),
    "+zstd": zstandard.ZstdCompressor().compress,
}
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def config(tars: Sequence[bytes], **fields: Any) -> Json:
    """A config document for the layers *tars*; *fields* replace or add."""
    return {
        "architecture": MACHINE,
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in tars]},
        **fields,
    }


class Layout:
    """An OCI layout directory that is written as told, right or wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_bytes(to_json({"imageLayoutVersion": "1.0.0"}))

    def blob(self, data: bytes, media_type: str, **fields: Any) -> Json:
        """Write a blob; return its descriptor, with *fields* replaced or added."""
        digest = sha256(data)
        self.blob_path(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data), **fields}

    def blob_path(self, digest: str) -> Path:
        return self.path / "blobs" / digest.replace(":", "/")

    def document(self, value: Any, media_type: str, **fields: Any) -> Json:
        return self.blob(to_json(value), media_type, **fields)

    def layer(self, data: bytes, suffix: str = "+gzip") -> Json:
        return self.blob(COMPRESSIONS[suffix](data), LAYER + suffix)

    def image(
        self,
        tars: Sequence[bytes],
        *,
        suffix: str = "+gzip",
        document: Json | None = None,
        layers: Sequence[Json] | None = None,
        manifest: Json | None = None,
        **fields: Any,
    ) -> Json:
        """Write an image; *fields* go into the descriptor that is returned.

        *document* replaces the config, *layers* the descriptors; *manifest* has more keys.
        """
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.document(document or config(tars), CONFIG),
            "layers": [self.layer(one, suffix) for one in tars] if layers is None else layers,
            **(manifest or {}),
        }
        return self.document(value, MANIFEST, **fields)

    def index(self, *entries: Json, **fields: Any) -> Layout:
        """Write index.json."""
        value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries), **fields}
        (self.path / "index.json").write_bytes(to_json(value))
        return self

    def nested(self, *entries: Json, **fields: Any) -> Json:
        """Write an index as a blob; return its descriptor."""
        return self.document({"schemaVersion": 2, "manifests": list(entries)}, INDEX, **fields)

    def archive(self, path: Path) -> Path:
        """Write the layout as a tar."""
        members = [
            file(str(found.relative_to(self.path)), found.read_bytes())
            for found in sorted(self.path.rglob("*"))
            if found.is_file()
        ]
        path.write_bytes(tar(*members))
        return path


def named(name: str) -> Json:
    """Descriptor fields that call an image *name*."""
    return {"annotations": {REF_NAME: name}}


def on(architecture: str, variant: str = "", system: str = "linux") -> Json:
    """Descriptor fields that say for which platform an image is."""
    platform = {"architecture": architecture, "os": system}
    return {"platform": {**platform, **({"variant": variant} if variant else {})}}


def docker_archive(
    tars: Sequence[bytes], tags: Sequence[str] = ("demo:1",), **changes: Any
) -> bytes:
    """What ``docker save`` wrote before version 25: equal layers are links to the first of them."""
    members, names, first = [], [], {}
    for place, layer in enumerate(tars):
        directory = hashlib.sha256(b"%d" % place).hexdigest()
        names.append(f"{directory}/layer.tar")
        if layer in first:
            members.append(symlink(names[-1], f"../{first[layer]}/layer.tar"))
        else:
            first[layer] = directory
            members.append(file(names[-1], layer))
    document = to_json(config(tars))
    name = hashlib.sha256(document).hexdigest() + ".json"
    entry = {"Config": name, "RepoTags": list(tags), "Layers": names, **changes}
    return tar(*members, file(name, document), file("manifest.json", to_json([entry])))


def docker25(layout: Layout, path: Path, tags: Sequence[str]) -> Path:
    """What ``docker save`` writes since version 25: a layout and a manifest.json in one tar."""
    index = json.loads((layout.path / "index.json").read_bytes())
    entry = index["manifests"][0]
    for tag in tags:
        entry["annotations"] = {
            "io.containerd.image.name": f"docker.io/library/{tag}",
            REF_NAME: tag.rpartition(":")[2],
        }
    layout.index(entry)
    manifest = json.loads(layout.blob_path(entry["digest"]).read_bytes())
    blobs = [one["digest"].replace(":", "/") for one in (manifest["config"], *manifest["layers"])]
    first, *rest = [f"blobs/{blob}" for blob in blobs]
    value = [{"Config": first, "RepoTags": list(tags), "Layers": rest}]
    (layout.path / "manifest.json").write_bytes(to_json(value))
    return layout.archive(path)


def have(*programs: str) -> str | None:
    """Return why a test that needs *programs* cannot run, None if it can."""
    missing = [program for program in programs if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def run(*words: str | Path, cwd: Path | None = None) -> None:
    """Run a tool quietly; its output becomes the failure's message."""
    done = subprocess.run(
        [os.fspath(word) for word in words], cwd=cwd, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stderr.decode(errors='replace')}"


def umoci_unpack(layout: Path, reference: str, place: Path) -> Path:
    """Return the root file system that umoci makes of an image."""
    run("umoci", "unpack", "--image", f"{layout}:{reference}", place)
    return place / "rootfs"


def umoci_image(place: Path, *steps: Callable[[Path], None]) -> Path:
    """Return a layout whose image ``made`` has a layer for each of *steps*, which change a root."""
    layout = place / "umoci"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:made")
    for number, step in enumerate(steps):
        bundle = place / f"bundle{number}"
        root = umoci_unpack(layout, "made", bundle)
        step(root)
        run("umoci", "repack", "--refresh-bundle", "--image", f"{layout}:made", bundle)
    return layout


def buildah_image(place: Path, containerfile: str, context: Path) -> Path:
    """Return a layout whose image ``built`` is what buildah makes of *containerfile*."""
    (place / "Containerfile").write_text(containerfile)
    storage = ["--root", place / "root", "--runroot", place / "run", "--storage-driver", "vfs"]
    build = ["bud", "--isolation", "chroot", "--layers", "-f", place / "Containerfile"]
    run("buildah", *storage, *build, "-t", "localhost/built", context)
    run("buildah", *storage, "push", "localhost/built", f"oci:{place / 'buildah'}:built")
    run("buildah", *storage, "rmi", "--all", "--force")
    return place / "buildah"


def skopeo_copy(source: str, destination: str, *options: str) -> None:
    run("skopeo", "copy", *options, source, destination)

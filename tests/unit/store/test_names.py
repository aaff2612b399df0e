"""Names of images, as registries and engines spell them."""

from __future__ import annotations

import pytest

from unionfs.store.names import BadNameError, container_name, image_name, random_container_name


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("debian", "debian:latest"),
        ("debian:12", "debian:12"),
        ("a/b/c:x", "a/b/c:x"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("registry.example/a-b/c__d.e:V1.0-x_y", "registry.example/a-b/c__d.e:V1.0-x_y"),
        ("x" * 255, "x" * 255 + ":latest"),
    ],
)
def test_names_get_a_tag(text: str, full: str):
    assert image_name(text) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":x",
        "a:",
        "A",
        "a b",
        "../x",
        "/a",
        "a//b",
        "a/",
        "a..b",
        "-a",
        "a:.x",
        "a:" + "t" * 129,
        "a:x:y",
        "a@sha256:00",
        "a\n",
        "x" * 256,
        "ä",
        "a:ä",
    ],
)
def test_other_words_are_refused(text: str):
    with pytest.raises(BadNameError):
        image_name(text)


def test_names_that_are_given_can_be_taken():
    names = {random_container_name() for _ in range(50)}
    assert len(names) > 10
    assert all(container_name(name) == name for name in names)

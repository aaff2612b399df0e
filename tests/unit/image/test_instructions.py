"""What ``--change`` does to a config: as ``docker commit`` does it."""

from __future__ import annotations

import pytest

from unionfs.image.instructions import BadChangeError, changed_config

BASE = {
    "Cmd": ["/bin/sh"],
    "Env": ["PATH=/bin", "A=old"],
    "WorkingDir": "/srv",
    "Labels": {"a": "1"},
    "ExposedPorts": {"80/tcp": {}},
    "OnBuild": None,
}


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ('CMD ["a", "b c"]', "Cmd", ["a", "b c"]),
        ("CMD echo $A", "Cmd", ["/bin/sh", "-c", "echo $A"]),
        ("cmd [not json]", "Cmd", ["/bin/sh", "-c", "[not json]"]),
        ('ENTRYPOINT ["x"]', "Entrypoint", ["x"]),
        ("ENTRYPOINT x y", "Entrypoint", ["/bin/sh", "-c", "x y"]),
        ("ENV B=2", "Env", ["PATH=/bin", "A=old", "B=2"]),
        ("ENV A=new PATH=$PATH:/x", "Env", ["PATH=/bin:/x", "A=new"]),
        ("ENV A two words", "Env", ["PATH=/bin", "A=two words"]),
        ("""ENV A="b c" B=d\\ e C='$A'""", "Env", ["PATH=/bin", "A=b c", "B=d e", "C=$A"]),
        ("ENV B=${NO:-${A}}x C=${A:+set} D=${A}", "Env",
         ["PATH=/bin", "A=old", "B=oldx", "C=set", "D=old"]),
        ("LABEL b=2 c='3 4'", "Labels", {"a": "1", "b": "2", "c": "3 4"}),
        ("LABEL a two", "Labels", {"a": "two"}),
        ("USER 10:20", "User", "10:20"),
        ("USER $A", "User", "old"),
        ("WORKDIR /x/", "WorkingDir", "/x"),
        ("WORKDIR sub", "WorkingDir", "/srv/sub"),
        ("EXPOSE 81 53/udp", "ExposedPorts", {"80/tcp": {}, "81/tcp": {}, "53/udp": {}}),
        ("EXPOSE 7000-7002", "ExposedPorts",
         {"80/tcp": {}, "7000/tcp": {}, "7001/tcp": {}, "7002/tcp": {}}),
        ("VOLUME /a /b", "Volumes", {"/a": {}, "/b": {}}),
        ('VOLUME ["/a b"]', "Volumes", {"/a b": {}}),
    ],
)  # fmt: skip
def test_one(change: str, key: str, value: object) -> None:
    changed = changed_config(BASE, [change])
    assert changed[key] == value
    others = {name: one for name, one in changed.items() if name != key}
    kept = {name: one for name, one in BASE.items() if name != key}
    if key == "Entrypoint":
        del kept["Cmd"]  # it was meant for another entry point
    assert others == kept


def test_an_entry_point_keeps_a_command_that_came_with_it() -> None:
    for changes in (['CMD ["c"]', 'ENTRYPOINT ["e"]'], ['ENTRYPOINT ["e"]', 'CMD ["c"]']):
        changed = changed_config(BASE, changes)
        assert (changed["Entrypoint"], changed["Cmd"]) == (["e"], ["c"])


def test_the_base_stays_as_it_is() -> None:
    before = repr(BASE)
    changed_config(BASE, ["ENV A=1", "LABEL x=y", "EXPOSE 1", "VOLUME /v"])
    assert repr(BASE) == before


@pytest.mark.parametrize(
    "change",
    [
        "",
        "RUN true",
        "FROM x",
        "HEALTHCHECK NONE",
        "CMD",
        "CMD=x",
        "ENV A",
        "ENV =x",
        "ENV A=1 B",
        "ENV A='x",
        "ENV A=${B",
        "ENV A=${B?x}",
        "LABEL x",
        "USER a b",
        "EXPOSE 0",
        "EXPOSE 65536",
        "EXPOSE 9-8",
        "EXPOSE 80/icmp",
        "EXPOSE 127.0.0.1:80:80",
        'VOLUME [""]',
        "VOLUME []",
    ],
)
def test_what_cannot_be_done_is_refused_by_name(change: str) -> None:
    with pytest.raises(BadChangeError) as caught:
        changed_config(BASE, [change])
    assert repr(change) in str(caught.value)

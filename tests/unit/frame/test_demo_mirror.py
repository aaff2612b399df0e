"""The demo's image comes from the machine's own mirror, found in what apt says."""

from __future__ import annotations

from scripts.demo.mirror import find_uri, parse_os_release

TARGETS = """\
http://security.example/ubuntu noble-security main
http://mirror.example/ubuntu noble universe
http://mirror.example/ubuntu noble main
http://other.example/ubuntu noble main
http://tools.example/deb nodistro main
"""


def test_the_release_itself_is_taken_and_not_its_updates() -> None:
    assert find_uri(TARGETS, "noble") == "http://mirror.example/ubuntu"


def test_no_mirror_for_another_release() -> None:
    assert find_uri(TARGETS, "bookworm") is None
    assert find_uri("", "bookworm") is None


def test_os_release_with_and_without_quotes() -> None:
    text = "NAME=\"Debian GNU/Linux\"\nID=debian\n# a comment\nVERSION_CODENAME='bookworm'\n"
    release = parse_os_release(text)
    assert (release["NAME"], release["ID"]) == ("Debian GNU/Linux", "debian")
    assert release["VERSION_CODENAME"] == "bookworm"

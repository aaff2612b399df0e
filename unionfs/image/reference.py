"""What names an image in a registry: ``[docker://][HOST[:PORT]/]PATH[:TAG][@DIGEST]``.

Without a host it is Docker Hub's, and there a single word is below ``library/``, as for all tools
that take such references (distribution's ``reference`` package).
"""

from __future__ import annotations

from dataclasses import dataclass

from unionfs.digest import BadDigestError, Digest
from unionfs.errors import UsageError
from unionfs.store.names import DEFAULT_TAG, image_name

_TRANSPORT = "docker://"
_HUB = "docker.io"


class BadReferenceError(UsageError):
    """A word does not name an image in a registry."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry: *repository* with its host; *tag* is None where only *digest* says
    which."""

    repository: str
    tag: str | None
    digest: Digest | None

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        return f"{self.repository}{tag}" + ("" if self.digest is None else f"@{self.digest}")

    @property
    def name(self) -> str | None:
        """What the image is called in a store, None without a tag."""
        return None if self.tag is None else f"{self.repository}:{self.tag}"

    def for_skopeo(self, digest: Digest | None = None) -> str:
        """Return it as skopeo names it; with *digest* another manifest of the repository."""
        wanted = digest or self.digest
        end = f":{self.tag}" if wanted is None else f"@{wanted}"
        return f"{_TRANSPORT}{self.repository}{end}"


def parse(text: str) -> Reference:
    """Return the reference that *text* is. Raises BadReferenceError, BadNameError."""
    name, at, digest = text.removeprefix(_TRANSPORT).partition("@")
    repository, _, tag = image_name(name).rpartition(":")
    has_tag = name == f"{repository}:{tag}"
    try:
        found = Digest.parse(digest) if at else None
    except BadDigestError as error:
        raise BadReferenceError(f"not an image in a registry: {text!r}: {error}") from None
    if found is None or has_tag:
        return Reference(_with_host(repository), tag if has_tag else DEFAULT_TAG, found)
    return Reference(_with_host(repository), None, found)


def _with_host(repository: str) -> str:
    host, slash, _ = repository.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return repository
    return f"{_HUB}/{repository if slash else f'library/{repository}'}"

"""The other services that people can sign in with. One exists where its client id is set; everything else follows from it."""

from dataclasses import dataclass
from typing import Literal

from ledger.settings import LedgerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One service, and what we are to it.

    `kind` says how it tells who somebody is: by a signed ID token (OpenID Connect) or by GitHub's own API.
    """

    name: str
    kind: Literal["openid", "github"]
    client_id: str
    client_secret: str
    base_url: str  # the issuer of ID tokens, or where GitHub's pages are
    api_url: str = ""
    scope: str


def providers_of(settings: LedgerSettings) -> dict[str, Provider]:
    """Name the providers that are set up; their secrets are files.

    Raises:
        OSError: A client id is set, but its secret is missing.
    """
    found = []
    if settings.google_client_id:
        found.append(
            Provider(
                name="google", kind="openid", client_id=settings.google_client_id, client_secret=settings.secret("google_client_secret"),
                base_url=settings.google_url.rstrip("/"), scope="openid email profile",
            )
        )  # fmt: skip
    if settings.github_client_id:
        found.append(
            Provider(
                name="github", kind="github", client_id=settings.github_client_id, client_secret=settings.secret("github_client_secret"),
                base_url=settings.github_url.rstrip("/"), api_url=settings.github_api_url.rstrip("/"), scope="read:user user:email",
            )
        )  # fmt: skip
    return {provider.name: provider for provider in found}

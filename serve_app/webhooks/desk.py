"""What handlers need of webhooks, in one place: the rows, the secrets, the guard."""

from dataclasses import dataclass

from cluster.errors import InvalidRequest
from serve_app.settings import ServeSettings
from serve_app.webhooks.endpoints import Endpoints
from serve_app.webhooks.guard import Policy
from serve_app.webhooks.lookup import Guard, Resolver
from serve_app.webhooks.outbox import Outbox
from serve_app.webhooks.signing import ROOT_FILE, Secrets


@dataclass(frozen=True, slots=True)
class WebhookDesk:
    """The endpoints of accounts, the log of deliveries, and what guards and signs both."""

    endpoints: Endpoints
    outbox: Outbox
    secrets: Secrets
    guard: Guard
    resolver: Resolver

    @classmethod
    def of(cls, settings: ServeSettings, database_url: str) -> "WebhookDesk":
        """Open it for a replica."""
        resolver = Resolver()
        guard = Guard(Policy.of(settings), resolver)
        return cls(Endpoints(database_url), Outbox(database_url), Secrets(settings.secret(ROOT_FILE)), guard, resolver)

    async def check_url(self, text: str, field: str = "webhook") -> str:
        """Check a URL that is to be told of jobs' ends; answer it as it is to be kept. `field`: what the caller named it.

        Raises:
            InvalidRequest: It may not be a webhook's; says why.
        """
        try:
            return await self.guard.check_url(text)
        except InvalidRequest as refused:
            raise InvalidRequest(refused.detail, field) from refused

    async def aclose(self) -> None:
        """Close the connections."""
        await self.endpoints.aclose()
        await self.outbox.aclose()
        self.resolver.close()

"""The short token that an agent connects with: fetched when it is needed, and again before it expires."""

import time

from cluster.edge.protocol import OFFLINE_S
from provider_join.agent.enroll import Access, Platform
from provider_join.agent.keys import AgentKey


class Tokens:
    """One node's token of the moment."""

    def __init__(self, platform: Platform, node: str, key: AgentKey) -> None:
        self._platform, self._node, self._key = platform, node, key
        self._access: Access | None = None
        self._expires_at = 0.0

    async def good(self) -> Access:
        """Answer the token from before while it is good for a while, or a fresh one; with the seconds that it has left.

        Raises:
            AgentRefused: The node may not connect any more.
            PlatformUnreachable: There is none now.
        """
        left_s = self._expires_at - time.monotonic()
        if self._access is None or left_s < OFFLINE_S:
            return await self.fresh()
        return Access(self._access.token, left_s)

    async def fresh(self) -> Access:
        """Fetch a new one.

        Raises:
            AgentRefused: The node may not connect any more.
            PlatformUnreachable: There is none now.
        """
        began = time.monotonic()
        self._access = await self._platform.token(self._node, self._key)
        self._expires_at = began + self._access.expires_in_s
        return self._access

    def drop(self) -> None:
        """The one from before is not taken any more."""
        self._access = None

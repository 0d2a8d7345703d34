"""What can go wrong when a machine wants to take part, each with its remedy.

JoinError
├── NotFit             this machine lacks something: a version, a port, memory, a runtime
├── ClockWrong         this machine's clock is not the head's
├── HeadUnreachable    nobody answers at the head's address
├── TokenRefused       the head does not know the invite's token
├── NotReachable       this machine reaches the head, but the head does not reach this machine (NAT, firewall)
├── StartFailed        Ray or the embedded runtime did not start here, or ended
├── PlatformUnreachable  the ledger does not answer an agent
├── EnrollRefused      the platform takes neither this code nor this key
├── AgentRefused       this node may not connect any more, or its key is used elsewhere (exit 77)
└── AgentTooOld        the platform speaks newer versions only (exit 78)
"""


class JoinError(Exception):
    """Root; `what` happened and `hint` says what to do."""

    exit_code = 1  # of the command that ends by it

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        """Say what happened."""
        return self.what


class NotFit(JoinError):
    """This machine lacks something that every node needs."""


class ClockWrong(NotFit):
    """This machine's clock is not the head's: the tokens of our services live a minute, and would seem expired or not yet made."""

    def __init__(self, ahead_s: float) -> None:
        super().__init__(
            f"this machine's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the head's",
            "set both by the network's time, e.g. timedatectl set-ntp true, then run `gfe join` again",
        )


class HeadUnreachable(JoinError):
    """Nobody answers at the head's address."""

    def __init__(self, head: str, why: str) -> None:
        super().__init__(
            f"the cluster's head does not answer at {head}: {why}",
            "both machines must be in one private network or VPN; check that `gfe status` is green on the head and that no firewall is between",
        )


class TokenRefused(JoinError):
    """The head does not know the invite's token."""

    def __init__(self, head: str) -> None:
        super().__init__(
            f"the head at {head} refuses the token of this invite", "ask for a new invite: `gfe admin invite` on the head's machine"
        )


class NotReachable(JoinError):
    """The head cannot open connections to this machine."""

    def __init__(self, address: str, ports: str) -> None:
        super().__init__(
            f"this machine reached the head, but the head cannot open connections to {address} (NAT or a firewall)",
            f"let the head in on ports {ports}, or join both to one VPN and name this machine's address there with --address; "
            "a machine that cannot be reached takes part with `gfe agent`",
        )


class StartFailed(JoinError):
    """Ray or the embedded runtime did not start here, or it ended."""


class PlatformUnreachable(JoinError):
    """The ledger does not answer an agent, or not now."""

    def __init__(self, url: str, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(
            f"the platform does not answer at {url}: {why}",
            "check the address (--url) and this machine's network; it tries again by itself",
        )
        self.retry_after_s = retry_after_s


class EnrollRefused(JoinError):
    """The platform takes neither this code nor this key."""


class AgentRefused(JoinError):
    """This node may not connect any more: a service manager must not start it again."""

    exit_code = 77


class AgentTooOld(JoinError):
    """The platform speaks newer versions only."""

    exit_code = 78

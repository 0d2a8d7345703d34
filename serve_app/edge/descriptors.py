"""How many connections the operating system lets this process have open at once: the usual 1,024 are fewer than one attacker opens."""

import resource

import structlog

log = structlog.get_logger()
OTHERS = 512  # drivers, the Dispatcher, the ledger, files


def make_room(connections: int) -> int:
    """See that so many connections may be open, as far as the system allows; answer how many files may be."""
    wanted = connections + OTHERS
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        log.warning("few_descriptors", allowed=allowed, wanted=wanted, hint="raise the limit of open files, or lower GFE_EDGE_MAX_AGENTS")
    return allowed

"""How often something may happen: buckets of tokens that fill again with time. Pure: the clock is an argument."""

from collections import OrderedDict

MAX_BUCKETS = 10_000  # names that are remembered; of more, those go that were asked for longest ago


class Bucket:
    """Holds `burst` tokens at most; `rate` of them come back per second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, float("-inf")

    def _fill(self, now: float) -> None:
        if self._at != float("-inf"):
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token; False: there is none."""
        return self.take_up_to(1, now) == 1

    def take_up_to(self, wanted: int, now: float) -> int:
        """Take so many tokens, or as many as there are; answer how many."""
        self._fill(now)
        taken = max(0, min(wanted, int(self._tokens)))
        self._tokens -= taken
        return taken

    def add(self, tokens: float) -> None:
        """Put tokens in beyond the burst, once."""
        self._tokens += tokens

    def wait_s(self, now: float) -> float:
        """Tell when the next token comes, in seconds."""
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self._rate)

    def is_full(self, now: float) -> bool:
        """Tell whether nothing was taken of late: then the bucket need not be kept."""
        self._fill(now)
        return self._tokens >= self._burst


class Buckets:
    """A bucket per name. The ones that are full again are forgotten, and of too many the oldest."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._kept: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        """Count the names that are remembered."""
        return len(self._kept)

    def of(self, name: str, now: float) -> Bucket:
        """Find a name's bucket."""
        bucket = self._kept.pop(name, None) or Bucket(self._rate, self._burst)
        self._kept[name] = bucket
        while len(self._kept) > MAX_BUCKETS or (len(self._kept) > 1 and next(iter(self._kept.values())).is_full(now)):
            self._kept.popitem(last=False)
        return bucket

"""The kernel in plain Python: what every operation must answer, and what the books must say afterwards.

Written from the rules, not from the SQL: no arrays, no locks, one operation after the other.
"""

from collections import Counter
from dataclasses import dataclass, field

from ledger.money.posting import POCKET, Hold, Kind, Operation, Post, Status

MOST = 10**15  # of one amount
LONGEST_S = 604_800


@dataclass
class Account:
    id: int
    unit: int
    floor: int | None
    posted: int = 0
    held: int = 0
    entries: list[tuple[object, int, int]] = field(default_factory=list)  # transaction, amount, balance

    @property
    def room(self) -> int:
        """What may still be taken or reserved."""
        return 10**18 if self.floor is None else self.posted - self.held - self.floor


@dataclass(frozen=True)
class OpenHold:
    said: object
    takes: tuple[tuple[int, int], ...]  # (account, amount) per line


@dataclass(frozen=True)
class Transaction:
    said: object
    hold_said: object | None
    kind: Kind
    legs: tuple[tuple[int, int], ...]
    reverses: object | None


class Model:
    """Accounts, open holds and transactions."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.holds: dict[object, OpenHold] = {}
        self.txns: dict[object, Transaction] = {}

    def open(self, id: int, *, unit: int, floor: int | None) -> Account:
        return self.accounts.setdefault(id, Account(id, unit, floor))

    def apply(self, operations: list[Operation]) -> list[Status]:
        """Judge posts, then holds, each as if alone; an id that is twice in the batch is judged at its first appearance only.

        One thing is not as if alone: a refund of a transaction of the same batch comes too early for it.
        """
        posts_first = sorted(range(len(operations)), key=lambda n: isinstance(operations[n], Hold))
        before, seen, told = set(self.txns), set(), {}
        for n in posts_first:
            one = operations[n]
            if one.id in seen:
                told[n] = Status.AGAIN
            else:
                seen.add(one.id)
                told[n] = self._hold(one) if isinstance(one, Hold) else self._post(one, before)
        return [told[n] for n in range(len(operations))]

    # --- posts ---

    def _post(self, post: Post, before: set[object]) -> Status:
        said = what_it_says(post)
        if post.id in self.txns:
            return Status.EXISTS if self.txns[post.id].said == said else Status.CONFLICT
        refused = self._form_of(post) or self._right_of(post) or self._refund_of(post, before)
        if refused:
            return refused
        if not post.resolves_hold and not self._is_affordable(post):
            return Status.FUNDS
        hold = self.holds.pop(post.id, None)
        for account, amount in hold.takes if hold else ():
            self.accounts[account].held -= amount
        for account_id, amount in post.legs:
            account = self.accounts[account_id]
            account.posted += amount
            account.entries.append((post.id, amount, account.posted))
        self.txns[post.id] = Transaction(said, hold and hold.said, post.kind, post.legs, post.reverses)
        return Status.OK

    def _form_of(self, post: Post) -> Status | None:
        """Judge a post by itself: legs, accounts, sums."""
        if (not post.legs and not post.resolves_hold) or any(amount == 0 or abs(amount) > MOST for _, amount in post.legs):
            return Status.INVALID
        if any(account not in self.accounts for account, _ in post.legs):
            return Status.NO_ACCOUNT
        sums: Counter[int] = Counter()
        for account, amount in post.legs:
            sums[self.accounts[account].unit] += amount
        return Status.UNBALANCED if any(sums.values()) else None

    def _right_of(self, post: Post) -> Status | None:
        """Judge what a post takes by the open hold of its id: all it resolves, nothing it does not."""
        hold = self.holds.get(post.id)
        if not post.resolves_hold:
            return Status.CONFLICT if hold else None
        if hold is None:
            return Status.NO_HOLD
        left: Counter[int] = Counter()
        for account, amount in hold.takes:
            left[account] += amount
        for account, amount in post.legs:
            left[account] += min(amount, 0)
        return Status.OVER_HOLD if any(amount < 0 for amount in left.values()) else None

    def _refund_of(self, post: Post, before: set[object]) -> Status | None:
        if post.reverses is None:
            return None
        if post.reverses not in before:
            return Status.NO_TXN
        return Status.CONFLICT if any(txn.reverses == post.reverses for txn in self.txns.values()) else None

    def _is_affordable(self, post: Post) -> bool:
        change: Counter[int] = Counter()
        for account, amount in post.legs:
            change[account] += amount
        debited = {account for account, amount in post.legs if amount < 0}
        return all(self.accounts[account].room + change[account] >= 0 for account in debited)

    # --- holds ---

    def _hold(self, hold: Hold) -> Status:
        said = what_it_says(hold)
        if hold.id in self.txns:
            return Status.EXISTS if self.txns[hold.id].hold_said == said else Status.CONFLICT
        if hold.id in self.holds:
            return Status.EXISTS if self.holds[hold.id].said == said else Status.CONFLICT
        fixed = [amount for _, amount in hold.lines if amount is not POCKET]
        is_impossible = not hold.lines or not 1 <= hold.amount <= MOST or not 1 <= hold.ttl_s <= LONGEST_S
        if is_impossible or not all(1 <= amount <= MOST for amount in fixed):
            return Status.INVALID
        if any(account not in self.accounts for account, _ in hold.lines):
            return Status.NO_ACCOUNT
        takes, refused = self._split(hold)
        if refused:
            return refused
        for account, amount in takes:
            self.accounts[account].held += amount
        self.holds[hold.id] = OpenHold(said, takes)
        return Status.OK

    def _split(self, hold: Hold) -> tuple[tuple[tuple[int, int], ...], Status | None]:
        """Lay a hold over its lines: pockets in order until the amount is reached, anything else whole."""
        need, takes = hold.amount, []
        used: Counter[int] = Counter()
        for account, amount in hold.lines:
            room = self.accounts[account].room - used[account]
            if amount is not POCKET and amount > room:
                return (), Status.LIMIT
            taken = min(need, room) if amount is POCKET else amount
            need -= taken if amount is POCKET else 0
            used[account] += taken
            takes.append((account, taken))
        return tuple(takes), Status.FUNDS if need else None


def what_it_says(operation: Operation) -> object:
    """Everything that makes two operations of one id the same."""
    if isinstance(operation, Hold):
        return operation.compared_by or (operation.amount, operation.lines, repr(operation.meta))
    return operation.kind, operation.resolves_hold, operation.reverses, operation.legs, repr(operation.meta)


def settled(pockets: tuple[tuple[int, int], ...], cost: int, fee_percent: int) -> tuple[dict[int, int], int, int, int]:
    """What a charge must do: debits by pocket, the provider's promotional and paid share, the fee. The first pocket is promotional."""
    debits, left = {}, cost
    for account, held in pockets:
        debits[account] = min(left, held)
        left -= debits[account]
    promo = debits[pockets[0][0]]
    paid = cost - left - promo
    shares = promo * (100 - fee_percent) // 100, paid * (100 - fee_percent) // 100
    return debits, *shares, cost - left - sum(shares)

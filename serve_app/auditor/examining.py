"""Examines one sample: opens it, has a window of its answer scored on the reference, applies the rule. The verdict holds no word of the text."""

from random import Random
from secrets import SystemRandom

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cluster.audit.pool import Pools
from cluster.audit.reference import ModelMissing, Reference
from cluster.audit.rules import MEAN_GAP, OUTSIDE, WINDOW, Judgment, Z, measured, rule_of
from cluster.audit.sample import Sample
from cluster.audit.sampling import NotScorable, orders_of, penalties_in, sampling_of
from cluster.audit.sealing import SealBroken
from cluster.errors import RuntimeRefused
from ledger.client import AuditTask, AuditVerdict, WhyNot, job_id

NO_REFERENCE = "no reference runtime is set (GFE_REFERENCE_URL)"
NOTHING = "nothing of the answer can be judged: no tokens, or none that the format leaves free"
NOT_RUN = "the reference does not run this request: it is longer than its context, or uses what it cannot"


class Examiner:
    """Judges samples; short answers wait in it for more of their node and model, until it ends."""

    def __init__(self, reference: Reference | None, key: X25519PrivateKey, chance: Random | None = None) -> None:
        self._reference, self._key = reference, key
        self._chance = chance or SystemRandom()
        self._pools = Pools()

    async def examine(self, task: AuditTask) -> AuditVerdict:
        """Judge one sample; what cannot be judged gets a verdict by no rule, and its reason.

        Raises:
            RuntimeFailed: The reference does not answer.
        """
        try:
            return await self._judged(task)
        except ModelMissing as missing:
            return _not_judged(task, str(missing), "no_copy")
        except (NotScorable, SealBroken) as unable:
            return _not_judged(task, str(unable))
        except RuntimeRefused:
            return _not_judged(task, NOT_RUN)

    async def _judged(self, task: AuditTask) -> AuditVerdict:
        if self._reference is None:
            return _not_judged(task, NO_REFERENCE, "no_copy")
        sample = Sample.opened(self._key, task.sealed, job_id(task.job))
        sampling = sampling_of(sample.request)
        rule, runtime = rule_of(sampling), str(task.rule_inputs.get("runtime", ""))
        model = await self._reference.model(task.model, task.weights_sha256.removeprefix("sha256:"))
        chance = self._chance.random()
        readings = [
            await self._reference.score(model, penalties.of(sample.request), sample.answer, window=WINDOW[rule], chance=chance)
            for penalties in penalties_in(runtime, sampling.penalties)
        ]
        if not all(scored.steps for scored in readings):
            return _not_judged(task, NOTHING, "short")
        steps = [[measured(step, sampling, order) for step in scored.steps] for scored in readings for order in orders_of(runtime)]
        found = self._pools.judge((task.node, task.model), rule, steps)
        if isinstance(found, int):
            why = f"too short to be judged alone: {found} of {WINDOW[rule]} tokens wait for the node's next answers"
            return _not_judged(task, why, "short")
        return _verdict(task, found, len(readings[0].steps))


def _not_judged(task: AuditTask, why: str, why_not: WhyNot = "unscorable") -> AuditVerdict:
    return AuditVerdict(id=task.id, is_flagged=False, rule="none", detail=why[:500], why_not=why_not)


def _verdict(task: AuditTask, found: Judgment, own_tokens: int) -> AuditVerdict:
    if found.rule == "A":
        said = f"mean gap {found.score:.3f} nats over {found.tokens} tokens, at most {MEAN_GAP} is expected"
    else:
        said = (
            f"z {found.score:.1f} over {found.tokens} tokens, at most {Z:g} is expected; {found.outside} of them the model could not have drawn, "
            f"fewer than {OUTSIDE} are expected"
        )
    pooled = "" if own_tokens == found.tokens else "; with the node's earlier short answers"
    return AuditVerdict(
        id=task.id, is_flagged=found.is_flagged, rule=found.rule, score=found.score, windows=1, tokens=found.tokens, detail=said + pooled
    )

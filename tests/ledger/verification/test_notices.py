"""The owner of a node is told by mail of each step about it: once, in the step's transaction, and only at an address that he has proven."""

import asyncio

import pytest

from ledger.client import CountAlarm, new_hold_id
from ledger.identity import owed_mail
from ledger.identity.mail import MailFailed
from ledger.ids import text_of
from ledger.verification import notices
from ledger.verification.verdicts import Verdict
from tests.edge_agent import execute
from tests.ledger.auditing import OPERATOR, market, verdict_on
from tests.ledger.people import mails

ADDRESS = "provider@example.org"


@pytest.fixture
async def ledger(ledger_with):
    return await ledger_with(welcome_credits="0", platform_fee_percent=10)


@pytest.fixture
async def m(ledger, database):
    made = await market(ledger, database)
    prove(made)
    return made


def prove(m, email=ADDRESS):
    execute(m.database, "UPDATE ledger.person SET email = %s, email_verified_at = clock_timestamp() WHERE id = %s", [email, m.owner.person])


def owed(m):
    return [subject for (subject,) in execute(m.database, "SELECT subject FROM ledger.owed_mail ORDER BY seq")]


async def handed_over(m):
    """Hand over what is owed; answers the new mails, as (subject, text)."""
    before = len(await mails(m.ledger))
    await m.ledger.context.owed_mail.hand_over()
    new = (await mails(m.ledger))[before:]
    assert all(f"To: {ADDRESS}" in text for text in new)
    return [(text.split("Subject: ")[1].splitlines()[0], " ".join(text.split("\n\n", 1)[1].replace("=\n", "").split())) for text in new]


async def test_each_strike_is_told_once_with_its_reason_its_job_and_the_sum(m):
    node = await m.node(label="attic")
    jobs = await m.serve(node, 5)
    await m.judge(node, jobs[0])
    await m.ledger.auditor.report_audit(verdict_on(jobs[0], is_flagged=True))  # the answer was lost: reported again
    ((subject, text),) = await handed_over(m)
    assert subject == "An audit found something about your node"
    for said in (f"attic ({node})", "does not come from the advertised model", text_of("job", jobs[0]), f"gfe nodes why {node}", "appeal"):
        assert said in text, said
    await m.judge(node, jobs[1])
    ((subject, text),) = await handed_over(m)
    assert subject == "Your node was put into quarantine"
    assert "until an operator has looked" in text
    await m.judge(node, jobs[2])
    ((subject, text),) = await handed_over(m)
    assert (subject, m.forfeited(node)) == ("Your node was banned", 1_800_000)
    assert "Forfeited: 1.80 credits" in text
    await m.ledger.auditor.report_audit(verdict_on(jobs[2], is_flagged=True))
    assert await handed_over(m) == []


async def test_a_node_that_miscounts_is_told_why(m):
    node = await m.node()
    for _ in range(11):
        await m.ledger.client.alarm_count(CountAlarm(job=new_hold_id(), node=node, claimed=200, counted=100))
    ((subject, text),) = await handed_over(m)
    assert subject == "Your node was put into quarantine"
    assert "token counts were off in 10 of 100 jobs" in text


async def test_a_node_that_is_paused_for_its_speed_is_told_so(m):
    node = await m.node()
    for _ in range(7):
        await m.ledger.client.alarm_count(CountAlarm(job=new_hold_id(), node=node, claimed=900, counted=150, kind="timing"))
    ((subject, text),) = await handed_over(m)
    assert subject == "Your node was paused"
    assert "faster than others with its GPU" in text
    assert "resume it" in text


async def test_what_operators_decide_is_told(m):
    appeals = m.ledger.context.appeals
    node = await m.node(label="attic")
    await m.judge(node, *await m.serve(node, 2))
    await appeals.lift(node, is_pardoned=False, reason="It was a driver.", origin=OPERATOR)
    assert [subject for subject, _ in await handed_over(m)][2:] == ["The quarantine of your node is over"]
    filed = await appeals.file(OPERATOR, m.owner.person, node, "please")
    await appeals.decide(text_of("appeal", filed.id), is_upheld=False, answer="The weights are others.", origin=OPERATOR)
    ((subject, text),) = await handed_over(m)
    assert (subject, "Why: The weights are others." in text) == ("Your appeal was refused", True)
    await m.judge(node, *await m.serve(node, 1))
    await handed_over(m)
    filed = await appeals.file(OPERATOR, m.owner.person, node, "once more")
    await appeals.decide(text_of("appeal", filed.id), is_upheld=True, answer="The reference was wrong.", origin=OPERATOR)
    ((subject, text),) = await handed_over(m)  # one mail of the decision and of the pardon that follows from it
    assert subject == "Your appeal was upheld"
    assert "2.70 credits came back" in text
    await m.judge(node, *await m.serve(node, 1))
    await handed_over(m)
    await appeals.lift(node, is_pardoned=True, reason="Again.", origin=OPERATOR)
    ((subject, text),) = await handed_over(m)
    assert (subject, "came back" in text) == ("Your node was pardoned", False)


@pytest.mark.parametrize("what", notices.WORDS)
def test_every_mail_says_what_happened_why_and_what_to_do(what):
    from ledger.verification.records import Locked

    node = Locked("node_1", new_hold_id(), "edge", "active", "probation", 100, True, "at{0}tic\r\nBcc: x")
    text = notices.body_of(what, node, "because {this}", amount=1_500_000)
    assert "at{0}tic" in text
    assert "Why: because {this}" in text
    assert ("1.50" in text) is bool(notices.WORDS[what].amount)
    assert "gfe nodes why node_1" in text
    assert "\n" not in notices.WORDS[what].subject


async def test_without_a_proven_address_nothing_is_owed_and_nothing_breaks(m):
    execute(m.database, "UPDATE ledger.person SET email_verified_at = NULL WHERE id = %s", [m.owner.person])
    node = await m.node()
    jobs = await m.serve(node, 3)
    await m.judge(node, jobs[0])
    execute(m.database, "UPDATE ledger.person SET email = NULL WHERE id = %s", [m.owner.person])
    assert (await m.judge(node, jobs[1], jobs[2])).state == "banned"
    assert (owed(m), await m.ledger.context.owed_mail.hand_over()) == ([], 0)


async def test_an_address_that_is_not_proven_any_more_gets_nothing(m):
    node = await m.node()
    await m.judge(node, *await m.serve(node, 1))
    execute(m.database, "UPDATE ledger.person SET email = 'other@example.org', email_verified_at = NULL WHERE id = %s", [m.owner.person])
    assert await handed_over(m) == []
    assert owed(m) == []


async def test_a_step_that_does_not_commit_owes_no_mail(m, monkeypatch):
    node = await m.node()
    jobs = await m.serve(node, 3)
    await m.judge(node, jobs[0], jobs[1])
    told = owed(m)

    async def broken(*_):
        raise RuntimeError("in the middle of a ban")

    with monkeypatch.context() as patch:
        patch.setattr("ledger.verification.verdicts.tell_node", broken)  # the last that a verdict does
        await m.offer(node, jobs[2])
        found = Verdict(job=jobs[2], is_flagged=True, rule="A", score=1.0, windows=3, tokens=96, detail="")
        with pytest.raises(RuntimeError):
            await m.ledger.context.verdicts.report(found)
    assert (owed(m), m.forfeited(node)) == (told, 0)
    await m.ledger.auditor.report_audit(verdict_on(jobs[2], is_flagged=True))
    assert owed(m) == [*told, "Your node was banned"]


class Stubborn:
    """A mail server that takes nothing until it is told to."""

    def __init__(self):
        self.is_open, self.asked, self.sent = False, 0, []

    async def send(self, mail):
        self.asked += 1
        if not self.is_open:
            raise MailFailed("no")
        self.sent.append(mail)


async def test_what_the_mail_server_does_not_take_is_tried_again_and_outlives_the_process(m):
    node = await m.node()
    await m.judge(node, *await m.serve(node, 2))
    server = Stubborn()
    desk = owed_mail.OwedMail(m.ledger.context.database, server, "http://console")
    assert await desk.hand_over() == 0
    assert await desk.hand_over() == 0  # it is not due yet
    assert (server.asked, len(owed(m))) == (2, 2)
    execute(m.database, "UPDATE ledger.owed_mail SET due_at = clock_timestamp()")
    server.is_open = True
    another = owed_mail.OwedMail(m.ledger.context.database, server, "http://console")
    assert sum(await asyncio.gather(desk.hand_over(), another.hand_over())) == 2  # two at once send nothing twice
    assert (sorted(mail.subject for mail in server.sent), owed(m)) == (
        sorted(notices.WORDS[what].subject for what in ("reaudit", "quarantine")),
        [],
    )
    assert "http://console/" in server.sent[0].text


async def test_a_mail_that_nobody_takes_is_given_up_in_the_end(m):
    node = await m.node()
    await m.judge(node, *await m.serve(node, 1))
    server = Stubborn()
    desk = owed_mail.OwedMail(m.ledger.context.database, server, "http://console")
    for n in range(owed_mail.MAX_TRIES):
        assert len(owed(m)) == 1, n
        execute(m.database, "UPDATE ledger.owed_mail SET due_at = clock_timestamp()")
        await desk.hand_over()
    assert (server.asked, owed(m)) == (owed_mail.MAX_TRIES, [])

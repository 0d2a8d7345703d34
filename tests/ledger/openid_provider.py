"""A small OpenID provider and a small GitHub, as a real server: codes are good once, PKCE and secrets are checked, tokens are signed."""

import base64
import hashlib
import json
import time
import uuid
from urllib.parse import parse_qs, urlsplit

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "client-1", "secret-1"


def key_pair():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = uuid.uuid4().hex
    return kid, key, json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig", "alg": "RS256"}


class Provider:
    """What it says can be bent by a test: `claims`, `signing`, `broken`."""

    def __init__(self):
        self.kid, self.key, self.jwk = key_pair()
        self.codes = {}  # code -> (challenge, nonce, redirect_uri)
        self.tokens = set()
        self.person = {"sub": "1001", "email": "ada@example.org", "email_verified": True, "preferred_username": "ada"}
        self.claims = {}
        self.sign = None
        self.broken = {}  # path -> handler
        self.asked = []

    async def start(self):
        @web.middleware
        async def bent(request, handler):
            self.asked.append(request.path)
            return await self.broken.get(request.path, handler)(request)

        app = web.Application(middlewares=[bent])
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/token", self._token)
        app.router.add_post("/login/oauth/access_token", self._token)
        app.router.add_get("/user", self._user)
        app.router.add_get("/user/emails", self._emails)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self):
        await self._runner.cleanup()

    def say_yes(self, url):
        """A person says yes on the provider's page; answers where it sends the browser back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", CLIENT, "S256")
        code = uuid.uuid4().hex
        self.codes[code] = (asked["code_challenge"], asked.get("nonce"), asked["redirect_uri"])
        back = urlsplit(asked["redirect_uri"])
        return f"{back.path}?code={code}&state={asked['state']}"

    async def _discovery(self, request):
        here = self.url
        return web.json_response(
            {"issuer": here, "authorization_endpoint": f"{here}/authorize", "token_endpoint": f"{here}/token", "jwks_uri": f"{here}/keys"}
        )

    async def _keys(self, request):
        return web.json_response({"keys": [self.jwk]})

    async def _token(self, request):
        form = await request.post()
        challenge, nonce, redirect_uri = self.codes.pop(form["code"], (None, None, None))
        made = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if (form["client_id"], form["client_secret"], form["redirect_uri"], made) != (CLIENT, SECRET, redirect_uri, challenge):
            return web.json_response({"error": "invalid_grant"}, status=400)
        access = uuid.uuid4().hex
        self.tokens.add(access)
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce} | self.person | self.claims
        signed = self.sign(claims) if self.sign else jwt.encode(claims, self.key, "RS256", headers={"kid": self.kid})
        return web.json_response({"access_token": access, "token_type": "Bearer", "id_token": signed})

    def _require_token(self, request):
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            raise web.HTTPUnauthorized

    async def _user(self, request):
        self._require_token(request)
        return web.json_response({"id": int(self.person["sub"]), "login": self.person["preferred_username"], "email": None})

    async def _emails(self, request):
        self._require_token(request)
        mine = {"email": self.person["email"], "primary": True, "verified": self.person["email_verified"]}
        return web.json_response([{"email": "old@example.org", "primary": False, "verified": True}, mine])

"""A dashboard that keeps what it was asked, and answers what the guard must not pass on."""

from aiohttp import web


class StandIn:
    """Ray's dashboard, or Grafana below a path: wants the bearer token where one is set, and sets cookies that nobody may see."""

    def __init__(self, token="cluster-token", base=""):
        self.token, self.base = token, base
        self.asked: list[web.BaseRequest] = []
        self.url = ""
        self.location = f"{base}/home?tab=1"

    async def _answer(self, request):
        self.asked.append(request)
        body = await request.read()
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        path = request.path.removeprefix(self.base)
        headers = {
            "Set-Cookie": "ray-authentication-token=cluster-token; HttpOnly", "X-Ray-Authorization": "Bearer cluster-token",
            "Access-Control-Allow-Origin": "*", "Authorization": "Bearer cluster-token",
        }  # fmt: skip
        if path == "/moved":
            return web.Response(status=302, headers=headers | {"Location": self.location})
        if path == "/slow":
            import asyncio

            await asyncio.sleep(60)
        if path == "/large":
            answer = web.StreamResponse(headers=headers)
            await answer.prepare(request)
            for _ in range(64):
                await answer.write(b"x" * 65_536)
            return answer
        return web.json_response({"path": request.raw_path, "body": body.decode(), "method": request.method}, headers=headers)

    async def start(self):
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}{self.base}"

    async def stop(self):
        await self._runner.cleanup()

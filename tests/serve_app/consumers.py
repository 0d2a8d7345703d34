"""What consumers do through the jobs API, for tests."""

import asyncio

from tests.ledger.people import bearer

SUBMIT = "/api/computing/submit-job/"


class Consumer:
    """A person's calls to the jobs API, by a key or a sign-in."""

    def __init__(self, platform, headers=None):
        self.platform = platform
        self.headers = platform.bearer if headers is None else headers

    async def call(self, method, path, **options):
        headers = self.headers | options.pop("headers", {})
        return await self.platform.http.request(method, path, headers=headers, **options)

    async def get(self, path, **options):
        return await self.call("GET", path, **options)

    async def submit(self, prompt="hello there", model="fake:words=3", headers=None, **more):
        return await self.call("POST", SUBMIT, json={"prompt": prompt, "model": model, **more}, headers=headers or {})

    async def submitted(self, *args, **more):
        answer = await self.submit(*args, **more)
        assert answer.status_code == 201, answer.text
        return answer.json()["job_id"]

    async def job(self, name):
        return (await self.get(f"/api/computing/jobs/{name}/")).json()

    async def jobs(self, **query):
        answer = await self.get("/api/computing/jobs/", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ended(self, name, limit_s=20, every_s=0.02):
        """Wait until a job has ended."""
        async with asyncio.timeout(limit_s):
            while (row := await self.job(name))["status"] in {"PENDING", "RUNNING"}:
                await asyncio.sleep(every_s)
        return row

    async def reaches(self, name, status, limit_s=60):
        async with asyncio.timeout(limit_s):
            while (row := await self.job(name))["status"] != status:
                await asyncio.sleep(0.02)
        return row

    async def wallet(self):
        return (await self.platform.ledger.http.get("/api/payments/wallet/", headers=self.headers)).json()


def keyed(platform, key):
    return Consumer(platform, bearer(key))


def anonymous(platform):
    return Consumer(platform, {})

"""A visitor of the console: goes to pages, looks at them, and notes what they complain of."""

import re
from pathlib import Path

WIDTHS = (360, 768, 1280)
# A refused renewal is how a page learns that nobody is signed in; browsers note every refusal.
EXPECTED = re.compile(r"status of (400|401|402|403|404|409|422|429) ")
SIGN_IN = {"X-GFE-CSRF": "1"}
SETTLED = "() => document.querySelector('h1') && !document.querySelector('[aria-busy=true]')"
LOOKED_EVERY_MS = 50


class Visitor:
    """A browser context with one page."""

    def __init__(self, context, site, axe_source: str, shots: Path | None) -> None:
        self.context, self.site = context, site
        self._axe_source, self._shots = axe_source, shots
        self.complaints: list[str] = []
        context.on("page", self._watch)
        self.page = context.new_page()

    def _watch(self, page) -> None:
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("console", lambda said: self._note(page, said))

    def _note(self, page, said) -> None:
        if said.type in {"error", "warning"} and not EXPECTED.search(said.text):
            self.complaints.append(f"{page.url}: {said.type}: {said.text}")

    def expect_complaints(self) -> None:
        """Forget what was complained of so far: the test has broken something on purpose."""
        self.complaints.clear()

    # --- going ------------------------------------------------------------------------------------------------------------------------

    def goto(self, path: str):
        self.page.goto(path)
        self.settled()
        return self.page

    def settled(self) -> None:
        """Wait until nothing is being loaded any more."""
        # Not at every frame, as without `polling`: the page would be drawn sixty times a second.
        self.page.wait_for_function(SETTLED, polling=LOOKED_EVERY_MS)

    def sign_in(self, account) -> None:
        """Sign in beside the page: the cookie is set as the form would set it."""
        body = {"username": account.username, "password": account.password, "deliver": "cookie"}
        answer = self.context.request.post("/api/core/token/", data=body, headers=SIGN_IN | {"Origin": self.site.url})
        assert answer.status == 200, answer.text()

    def resize(self, width: int, height: int = 860) -> None:
        self.page.set_viewport_size({"width": width, "height": height})

    def scheme(self, scheme: str) -> None:
        """Choose dark or light colors as somebody did before."""
        self.page.evaluate("(scheme) => localStorage.setItem('gfe-color-scheme', scheme)", scheme)
        self.page.reload()
        self.settled()

    # --- looking ----------------------------------------------------------------------------------------------------------------------

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page as it is now, a line each."""
        # Through the debugger, not as a script of the page: the page's policy forbids those, and so it should.
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(self._axe_source)
        found = self.page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
        return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found["violations"] for node in one["nodes"]]

    def require_accessible(self) -> None:
        violations = self.violations()
        assert violations == [], "\n".join([self.page.url, *violations])

    def require_fits(self) -> None:
        """Nothing sticks out at the right."""
        width, room = self.page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
        assert width <= room, f"{self.page.url} is {width} px wide in {room} px"

    def stored(self) -> dict[str, str]:
        """Everything that the page keeps where scripts can read it."""
        return self.page.evaluate("() => ({...localStorage, ...sessionStorage, cookie: document.cookie, address: location.href})")

    def require_looks_well(self, name: str, widths=WIDTHS) -> None:
        """Look at the page at every width, and once more in light colors: it fits, axe finds nothing; a picture of each, if they are wanted."""
        for width in widths:
            self.resize(width)
            self._look(name)
        self.scheme("light")
        self._look(f"{name}-light")
        self.scheme("dark")

    def _look(self, name: str) -> None:
        self.require_fits()
        self.require_accessible()
        self.shot(name)

    def shot(self, name: str) -> None:
        """Take a picture of the whole page, if pictures are wanted (`--shots DIR`)."""
        if self._shots is None:
            return
        self._shots.mkdir(parents=True, exist_ok=True)
        width = self.page.viewport_size["width"]
        self.page.screenshot(path=self._shots / f"{name}-{width}.png", full_page=True)

"""Makes the pictures of the documents out of what the browser tests saw: each page at 1280 and 360 px, as WebP, which the browser writes itself.

./gfe test tests/web --shots DIR
.venv/bin/python -m tests.web.pictures DIR docs/img
"""

import base64
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from bench.chromium import chromium

# Name in the documents -> name of the test's picture.
PAGES = {
    "landing": "landing", "login": "login", "register": "register", "forgot-password": "forgot-password", "not-found": "not-found",
    "overview": "overview", "playground": "playground", "jobs": "jobs", "job": "job", "wallet": "wallet-of-a-provider", "provider": "provider",
    "machine": "machine", "network": "network", "account": "account", "security": "account-security", "keys": "account-keys",
    "operations": "admin-operations", "users": "admin-users", "withdrawals": "admin-withdrawals-to-pay", "nodes": "admin-nodes",
    "node": "admin-node", "appeals": "admin-appeals-open", "prices": "admin-prices", "catalog": "admin-catalog",
    "corrections": "admin-corrections", "audit-log": "admin-audit-log",
}  # fmt: skip
TALLEST = {1280: 1000, 360: 1300}  # pixels of the page's top that are shown
QUALITY = 0.72
LIMIT_BYTES = 2_000_000  # of all
WEBP = """async ([png, tallest, quality]) => {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: Math.min(image.height, tallest) });
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", quality).split(",")[1];
}"""


def main() -> None:
    """Write them all; tell which are missing, and how large all are."""
    shots, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        missing = [
            f"{shot}-{width}" for shown, shot in PAGES.items() for width in TALLEST if not _made(page, shots, target, shown, shot, width)
        ]
        browser.close()
    total = sum(path.stat().st_size for path in target.glob("*.webp"))
    sys.stdout.write(f"{2 * len(PAGES) - len(missing)} pictures, {total} bytes; missing: {', '.join(missing) or 'none'}\n")
    if missing or total > LIMIT_BYTES:
        sys.exit(1)


def _made(page: Page, shots: Path, target: Path, shown: str, shot: str, width: int) -> bool:
    source = shots / f"{shot}-{width}.png"
    if source.exists():
        png = base64.b64encode(source.read_bytes()).decode()
        (target / f"{shown}-{width}.webp").write_bytes(base64.b64decode(page.evaluate(WEBP, [png, TALLEST[width], QUALITY])))
    return source.exists()


if __name__ == "__main__":
    main()

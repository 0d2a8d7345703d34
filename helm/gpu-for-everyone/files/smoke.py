"""What `helm test` asks: does each part answer from inside the cluster? Standard library alone."""  # noqa: INP001 - a file, no package

import sys
import time
import urllib.error
import urllib.request

TRIES, PAUSE_S, LIMIT_S = 30, 5, 5


def answers(url: str) -> str:
    """Ask once; empty: it answered 200."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=LIMIT_S) as answer:
            return "" if answer.status == 200 else f"answered {answer.status}"
    except urllib.error.HTTPError as refused:
        return f"answered {refused.code}: {refused.read(500).decode(errors='replace')}"
    except OSError as failed:
        return str(failed)


def main(urls: list[str]) -> int:
    """Ask each until it answers; tell what came of it."""
    failed = 0
    for url in urls:
        for _ in range(TRIES):
            why = answers(url)
            if not why:
                break
            time.sleep(PAUSE_S)
        sys.stdout.write(f"{'FAIL' if why else 'ok'} {url} {why}\n")
        sys.stdout.flush()
        failed += bool(why)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`gfe jobs receipt`: a job's receipt, and whether its signatures fit; with saved keys that needs nobody's help."""

import json
from pathlib import Path
from typing import Any

import jwt
import typer

from serve_app.cli import output
from serve_app.cli.http import installation
from serve_app.receipts import BadReceipt, check, check_answer

MAX_FILE_BYTES = 1024 * 1024


def receipt(
    job: str = typer.Argument(help="The job's id, job_…"),
    *,
    verify: bool = typer.Option(False, "--verify", help="Check the platform's signature, the node's, and the hash of the answer."),
    jwks: Path | None = typer.Option(None, help="Check with these saved keys (JSON), instead of those that the ledger publishes now."),
    file: Path | None = typer.Option(None, help="Read the receipt from a file that --out wrote, instead of asking for it."),
    out: Path | None = typer.Option(None, help="Write the receipt into a file."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what a job was and what it cost, signed by the platform and by the node that served it."""
    token = _read(file).strip() if file else _asked(job)
    if verify:
        claims, fits = _verified(token, jwks, job, is_fetched=file is None)
    else:
        claims, fits = _unverified(token), []
    if out:
        out.write_text(token + "\n")
    if as_json:
        output.data({"receipt": token, "claims": claims, "verified": fits}, as_json=True)
        return
    output.data("\n".join(f"{name:<9}{text}" for name, text in lines_of(claims)), as_json=False)
    output.note("\nverified: " + ", ".join(fits) if verify else "\nhint: --verify checks its signatures")


def _verified(token: str, jwks: Path | None, job: str, *, is_fetched: bool) -> tuple[dict[str, Any], list[str]]:
    """Check a receipt; answer its claims, and what was found to fit."""
    try:
        claims = check(token, _keys(jwks), job)
        fits = ["the platform's signature", *(["the node's signature"] if claims.get("agent") else [])]
        if is_fetched:
            found = installation()
            check_answer(claims, *answer_of(found.text(f"{found.api_url}/api/computing/jobs/{job}/stream/")))
            fits.append("the hash of the answer")
    except BadReceipt as bad:
        output.refuse(str(bad), "do not rely on this receipt; `gfe jobs receipt` fetches the platform's own")
    return claims, fits


def _unverified(token: str) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        output.refuse("this is no receipt: it cannot be read")
    return claims


def _asked(job: str) -> str:
    found = installation()
    return str(found.call("GET", f"{found.api_url}/api/computing/jobs/{job}/receipt/")["receipt"])


def _keys(path: Path | None) -> Any:
    if path is None:
        found = installation()
        return found.call("GET", f"{found.console_url}/.well-known/jwks.json")
    try:
        return json.loads(_read(path))
    except ValueError:
        output.refuse(f"{path} is no JSON", "save the keys with `curl -o keys.json <console>/.well-known/jwks.json`")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as failed:
        output.refuse(f"{path} cannot be read ({type(failed).__name__})")


def answer_of(stream: str) -> tuple[str, str]:
    """Read the content and the thinking of an answer from the events of its job."""
    said = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]
    texts = [one for one in said if one["event"] == "text"]
    return "".join(one["content"] for one in texts), "".join(one.get("thinking", "") for one in texts)


def lines_of(claims: dict[str, Any]) -> list[tuple[str, str]]:
    """Write a receipt for a person."""
    usage, agent = claims.get("usage"), claims.get("agent")
    refunded = "" if claims["refunded"] == "0.00" else f", {claims['refunded']} refunded"
    return [
        ("job", claims["job"]),
        ("outcome", claims["outcome"]),
        ("model", f"{claims['model']} {claims['model_digest'][:12]}".rstrip()),
        ("node", claims["node"] or "-"),
        *(
            (("tokens", f"{usage['prompt_tokens']} read, {usage['completion_tokens']} written, counted by the {usage['counted_by']}"),)
            if usage
            else ()
        ),
        ("cost", f"{claims['cost']} of {claims['held']} held{refunded}"),
        ("settled", claims["settled_at"][:19]),
        ("signed", f"by {claims['iss']}" + (" and by the node" if agent else ", not by the node")),
    ]

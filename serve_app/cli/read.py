"""`gfe models`: what the API tells."""

import typer

from serve_app.cli import output
from serve_app.cli.http import installation

JSON = typer.Option(False, "--json", help="Print JSON.")


def models(*, as_json: bool = JSON) -> None:
    """List the models that are offered now."""
    found = installation()
    rows = found.call("GET", f"{found.api_url}/v1/models")["data"]
    if as_json:
        output.data(rows, as_json=True)
    elif rows:
        output.data("\n".join(row["id"] for row in rows), as_json=False)
    else:
        output.note("no node offers a model now\n\nhint: `gfe status` tells what the nodes do")

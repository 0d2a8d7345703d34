"""`gfe admin rotate-secret`: exchanges secrets of the installation while it is down."""

import typer

from serve_app.cli import output


def rotate_secret(
    names: list[str] = typer.Argument(
        help="ray-token, service-serve, service-edge, service-guard, service-auditor, database-passwords: one or more."
    ),
    *,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Exchange secrets of this installation, which must be down; the next `gfe up` runs with the new ones. `rotate-keys` is for tokens' keys."""
    from serve_app.local.errors import Refused
    from serve_app.local.home import Home
    from serve_app.local.rotating import rotate

    try:
        afterwards = rotate(Home.of_environment(), names)
    except Refused as refused:
        output.refuse(refused.what, refused.hint)
    text = "\n".join([f"new: {', '.join(names)}; `gfe up` starts with them", *afterwards])
    output.data({"rotated": names, "afterwards": afterwards} if as_json else text, as_json=as_json)

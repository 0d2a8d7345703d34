"""`python -m serve_app.cli`."""

from serve_app.cli import main

main()

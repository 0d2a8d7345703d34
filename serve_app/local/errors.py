"""Errors of a one-machine installation.

    Refused                    something about this machine prevents the start
    ├── HomeUnusable           a folder (home.py)
    ├── PostgresError          the embedded server (postgres.py)
    ├── DatabaseUnsuitable     somebody else's server, or one too old (database.py)
    └── NotStarted             what the supervisor said of itself, on the command's side (commands.py)

Each is one sentence and one hint, and leaves nothing half-made behind.
"""


class Refused(Exception):
    """The installation cannot start here; says what is wrong and what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        """Say what is wrong."""
        return self.what

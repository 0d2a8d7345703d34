"""New files of the secrets' folder: closed to others, and the folder's owner's, whoever writes them.

Root's commands (`gfe admin rotate-keys`) write into the folder of a ledger that runs as a user of its own: the file must be that user's.
"""

import os
from pathlib import Path


def write_new(path: Path, text: bytes, mode: int = 0o600) -> None:
    """Write a file that was not there.

    Raises:
        FileExistsError: It was.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        if os.geteuid() == 0:
            folder = path.parent.stat()
            os.fchown(file.fileno(), folder.st_uid, folder.st_gid)

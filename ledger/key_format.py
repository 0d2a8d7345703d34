"""The form of an API key: `gfe_live_<8 base62 id>_<43 base62 secret>_<6 base62 checksum>`, 68 characters.

The checksum (CRC-32 over all before the last `_`) lets a typing mistake, and a leaked-key scanner, be told from a wrong key without a
database.
"""

import re
import zlib

from ledger.errors import CredentialMistyped, CredentialUnknown

PREFIX = "gfe_live_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"gfe_live_([0-9A-Za-z]{8})_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}")
ID_LENGTH, SECRET_LENGTH, CHECK_LENGTH = 8, 43, 6


def base62(value: int, length: int) -> str:
    """Write a number in base 62, exactly `length` letters."""
    letters = ""
    for _ in range(length):
        value, digit = divmod(value, 62)
        letters = _ALPHABET[digit] + letters
    return letters


def checksum(head: str) -> str:
    """Tell the checksum of all before the last `_`."""
    return base62(zlib.crc32(head.encode()), CHECK_LENGTH)


def key_id(text: str) -> str:
    """Tell the public id of a well-formed key.

    Raises:
        CredentialUnknown: It does not even look like a key of ours.
        CredentialMistyped: It looks like one, but its length or checksum does not fit.
    """
    if not text.startswith("gfe_"):
        raise CredentialUnknown
    found = _FORM.fullmatch(text)
    if found is None or checksum(text.rpartition("_")[0]) != text[-CHECK_LENGTH:]:
        raise CredentialMistyped
    return found.group(1)

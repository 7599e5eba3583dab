"""One JSON line a request, for machines: what was asked, how it ended, how long it took. Users
appear as a keyed hash, so that lines of one user can be joined and nobody can be read from them.
"""

import hashlib
import logging
import secrets
import sys
import time
from typing import Any

import msgspec

from serving.catalogue import RawId

log = logging.getLogger("recsys.serve")


class Pseudonyms:
    """Names for users that only the holder of the key can make. The default key dies with the
    process.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = (key or secrets.token_bytes(32))[:64]

    def of(self, user: RawId | None) -> str | None:
        """Twelve hexadecimal digits; None for nobody."""
        if user is None:
            return None
        name = str(user).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(name, key=self._key, digest_size=6).hexdigest()


def write_line(**fields: Any) -> None:
    """One line, with the time in front; fields that are None are left out."""
    if log.isEnabledFor(logging.INFO):
        told = {name: value for name, value in fields.items() if value is not None}
        text = msgspec.json.encode({"at": round(time.time(), 3), **told}).decode()
        # as log.info, which would also look up who called
        log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, text, (), None))


def log_to_stderr() -> None:
    """Lines as they are, whatever else the process logs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False

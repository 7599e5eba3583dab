"""A file from the network: resumed, checked, and named as asked only when it is right.

1. `name.part` grows beside the target. A broken connection leaves it; the next attempt, in this
   process or in a later one, asks the server for the rest only (HTTP Range).
2. When it is complete its checksum is compared.
3. One rename gives it its name: whoever finds the target finds the whole file.
"""

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from features.errors import InputError
from features.stage import lock

CHUNK = 1 << 16
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""


def download(url: str, target: Path, *, md5: str, attempts: int = 5, pause: float = 1.0) -> Path:
    """Fetch `url` to `target` unless it is already there; return `target`.

    `pause` is in seconds, between `attempts`, of which only those without a new byte count.
    Raises InputError when the server cannot be reached or the content has another checksum.
    """
    if target.exists():
        if file_md5(target) == md5:
            return target
        raise InputError(f"{target} is damaged: its md5 is not {md5}; delete it and run again")
    part = target.with_name(target.name + ".part")
    with lock(target):
        print(f"downloading {url} to {target}", file=sys.stderr)
        _fetch_all(url, part, attempts, pause)
        if (found := file_md5(part)) != md5:
            part.unlink()
            raise InputError(f"{url} has md5 {found}, expected {md5}: thrown away, run again")
        part.rename(target)
    return target


def file_md5(path: Path) -> str:
    """Hex digest of a file's content: the kind of checksum that the publishers give."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_all(url: str, part: Path, attempts: int, pause: float) -> None:
    """Go on until `part` is complete; give up after `attempts` in a row that brought nothing."""
    console = Console(stderr=True)
    columns = ("[progress.description]{task.description}", BarColumn(), DownloadColumn())
    failed = 0
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        while True:
            before = _size(part)
            try:
                if _fetch(url, part, progress):
                    return
                reason = "the connection broke off"
            except urllib.error.HTTPError as error:
                raise InputError(_advice(url, part, f"HTTP {error.code}")) from error
            except (OSError, http.client.HTTPException) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            failed = 0 if _size(part) > before else failed + 1
            if failed >= attempts:
                raise InputError(_advice(url, part, reason))
            time.sleep(pause)


def _fetch(url: str, part: Path, progress: Progress) -> bool:
    """Append what the server still has; return whether `part` is then complete."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return True  # nothing is left to send; the checksum tells whether that is right
        raise
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        start = start if resumed else 0  # a server without ranges sends the file from its start
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        task = progress.add_task(part.name.removesuffix(".part"), total=total, completed=start)
        with part.open("ab" if resumed else "wb") as stream:
            while chunk := response.read(CHUNK):
                stream.write(chunk)
                progress.advance(task, len(chunk))
        progress.remove_task(task)
    return total is None or _size(part) >= total


def _advice(url: str, part: Path, reason: str) -> str:
    kept = f"; {_size(part)} bytes are kept, and the next run goes on from there" * part.exists()
    return (
        f"cannot download {url} ({reason}){kept}. Without a network, set RECSYS_DATA to a folder "
        f"that holds the unpacked archive"
    )

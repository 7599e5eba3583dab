"""Downloads against a server on this machine that can break off, ignore ranges or be absent."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from data.download import download
from features.errors import InputError

CONTENT = bytes(range(256)) * 2_000
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Shelf:
    """One file to serve, and how badly."""

    url: str = ""
    break_off_after: list[int] = field(default_factory=list)
    """Bytes of the body sent by the first requests, one a request; later ones send all."""
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    """The Range header of each request."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start >= len(CONTENT):
            request.send_error(416)
            return
        request.send_response(206 if asked and self.ranges else 200)
        body = CONTENT[start:]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.break_off_after:
            body = body[: self.break_off_after.pop(0)]
        request.wfile.write(body)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    served = Shelf()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/file.zip"
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_arrives_whole_and_is_not_fetched_twice(shelf: Shelf, tmp_path: Path) -> None:
    for _ in range(2):
        assert download(shelf.url, tmp_path / "a.zip", md5=MD5).read_bytes() == CONTENT
    assert shelf.asked == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_broken_download_goes_on_where_it_stopped(shelf: Shelf, tmp_path: Path) -> None:
    shelf.break_off_after = [300_000, 100_000]
    download(shelf.url, tmp_path / "a.zip", md5=MD5, pause=0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert shelf.asked == [None, "bytes=300000-", "bytes=400000-"]


def test_a_later_run_resumes_the_partial_file(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1_000])
    download(shelf.url, tmp_path / "a.zip", md5=MD5)
    assert shelf.asked == ["bytes=1000-"]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_run_killed_before_the_rename_needs_no_byte_more(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert download(shelf.url, tmp_path / "a.zip", md5=MD5).read_bytes() == CONTENT


def test_a_server_without_ranges_is_read_from_the_start(shelf: Shelf, tmp_path: Path) -> None:
    shelf.ranges = False
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1_000])
    assert download(shelf.url, tmp_path / "a.zip", md5=MD5).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has md5 {MD5}, expected {'0' * 32}"):
        download(shelf.url, tmp_path / "a.zip", md5="0" * 32)
    assert not list(tmp_path.glob("a.zip*"))


def test_a_damaged_file_in_the_cache_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=r"a\.zip is damaged.*delete it"):
        download(shelf.url, tmp_path / "a.zip", md5=MD5)


def test_without_a_server_the_part_is_kept_and_recsys_data_named(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.break_off_after = [1_000, 0, 0, 0]
    with pytest.raises(InputError, match=r"1000 bytes are kept.*RECSYS_DATA"):
        download(shelf.url, tmp_path / "a.zip", md5=MD5, attempts=2, pause=0)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:1_000]
    assert not (tmp_path / "a.zip").exists()


def test_a_refused_connection_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot download .* Without a network, set RECSYS_DATA"):
        download("http://127.0.0.1:1/a.zip", tmp_path / "a.zip", md5=MD5, attempts=1, pause=0)


def test_a_missing_page_is_not_tried_again(shelf: Shelf, tmp_path: Path) -> None:
    shelf.answer = lambda request: request.send_error(404)  # type: ignore[method-assign]
    with pytest.raises(InputError, match="HTTP 404"):
        download(shelf.url, tmp_path / "a.zip", md5=MD5)

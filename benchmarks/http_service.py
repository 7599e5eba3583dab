"""What HTTP adds to `recommend`, and what is left of the capacity when sixteen times as many ask.

    python benchmarks/http_service.py BUNDLE [--requests 2000] [--seconds 5] [--retry-ms 20]

The server runs in a process of its own on the first processor, with one thread, as `recsys serve`
starts it; the clients share the second. Latency: one connection, the same histories through the
socket and through the library in this process, one after the other; the difference of the medians
is what HTTP adds, client included. Overload: first as many connections as are computed and may wait
(none is refused: the capacity), then sixteen times as many, each asking again as soon as it is
answered, and `--retry-ms` after a refusal, which tells them to wait a second. Goodput counts the
answers with status 200.
"""

import argparse
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from serving.recommender import Recommender

QUEUE, TIMES = 3, 16


def start(bundle: Path) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    config = bundle.parent / f".serve-{os.getpid()}.toml"
    config.write_text(f"[serve]\nport = 0\nthreads = 1\nqueue = {QUEUE}\ndrain_seconds = 0.0\n")
    code = "from recsys.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(bundle), "--config", str(config)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    os.sched_setaffinity(process.pid, {0})
    assert process.stderr is not None
    line = ""
    while '"started"' not in line:
        line = process.stderr.readline()
        assert line, "the server ended before it started"
    config.unlink()
    threading.Thread(target=process.stderr.read, daemon=True).start()
    parts = urlsplit(json.loads(line)["public"])
    assert parts.hostname is not None
    assert parts.port is not None
    return process, (parts.hostname, parts.port)


def request(history: Sequence[int | str]) -> bytes:
    body = json.dumps({"history": list(history), "k": 10}).encode()
    head = "POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask(connection: socket.socket, message: bytes) -> int:
    """The status, once the whole answer is here."""
    connection.sendall(message)
    found = connection.recv(1 << 16)
    while b"\r\n\r\n" not in found:
        found += connection.recv(1 << 16)
    head, _, body = found.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(1 << 16)
    return int(head[9:12])


def connect(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def latency(
    recommender: Recommender, address: tuple[str, int], histories: list[list[int | str]]
) -> None:
    times: dict[str, list[float]] = {"library": [], "HTTP": []}
    with connect(address) as connection:
        for history in histories:
            message = request(history)
            started = time.perf_counter()
            recommender.recommend(history, k=10, at=time.time_ns() // 1_000)
            between = time.perf_counter()
            assert ask(connection, message) == 200
            times["library"].append(between - started)
            times["HTTP"].append(time.perf_counter() - between)
    for name, values in times.items():
        p50, p99 = np.quantile(values, [0.5, 0.99]) * 1e3
        print(f"| {name} | {p50:.2f} | {p99:.2f} |")
    added = (np.median(times["HTTP"]) - np.median(times["library"])) * 1e3
    print(f"| HTTP adds | {added:.2f} | |\n")


class Asker:
    """One connection that asks again and again, without a thread of its own."""

    def __init__(self, address: tuple[str, int], messages: list[bytes], turn: int) -> None:
        self.socket = connect(address)
        self._messages, self._turn = messages, turn
        self._found = b""
        self.send()

    def send(self) -> None:
        self._turn += 1
        self.began = time.perf_counter()
        self.socket.sendall(self._messages[self._turn % len(self._messages)])

    def receive(self) -> int | None:
        """The status, once the whole answer is here."""
        self._found += self.socket.recv(1 << 16)
        head, end, body = self._found.partition(b"\r\n\r\n")
        if not end:
            return None
        if len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            return None
        self._found = b""
        return int(head[9:12])


def load(
    address: tuple[str, int], messages: list[bytes], clients: int, seconds: float, retry: float
) -> tuple[float, float, float, int]:
    """Answers a second, refusals a second, p99 of the answered in ms, other statuses."""
    end = time.monotonic() + seconds
    answered: list[float] = []
    counts = {503: 0, 0: 0}
    waiting: list[tuple[float, Asker]] = []
    with selectors.DefaultSelector() as ready:
        for number in range(clients):
            asker = Asker(address, messages, number)
            ready.register(asker.socket, selectors.EVENT_READ, asker)
        while (now := time.monotonic()) < end:
            while waiting and waiting[0][0] <= now:
                waiting.pop(0)[1].send()
            for key, _ in ready.select(0.002):
                status = key.data.receive()
                if status == 200:
                    answered.append(time.perf_counter() - key.data.began)
                    key.data.send()
                elif status is not None:
                    counts[503 if status == 503 else 0] += 1
                    waiting.append((now + retry, key.data))
        for key in list(ready.get_map().values()):
            key.data.socket.close()
    p99 = float(np.quantile(answered, 0.99)) * 1e3
    return len(answered) / seconds, counts[503] / seconds, p99, counts[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--retry-ms", type=float, default=20.0)
    options = parser.parse_args()
    recommender = Recommender.load(options.bundle)
    raw_ids = recommender.raw_item_ids[1:].to_list()
    rng = np.random.default_rng(0)
    size = min(50, len(raw_ids) // 2)
    histories = [[raw_ids[i] for i in rng.permutation(len(raw_ids))[:size]] for _ in range(200)]
    process, address = start(options.bundle)
    os.sched_setaffinity(0, {1})
    messages = [request(history) for history in histories]
    try:
        print(f"{recommender.num_items:,} items, load {os.getloadavg()[0]:.1f}\n")
        print("| one connection | p50 ms | p99 ms |\n|---|---:|---:|")
        latency(recommender, address, [histories[n % 200] for n in range(options.requests)])
        print("| connections | answers/s | refused/s | p99 of answers, ms | errors |")
        print("|---:|---:|---:|---:|---:|")
        rates = []
        for clients in (1 + QUEUE, (1 + QUEUE) * TIMES):
            good, refused, p99, errors = load(
                address, messages, clients, options.seconds, options.retry_ms / 1e3
            )
            rates.append(good)
            print(f"| {clients} | {good:.0f} | {refused:.0f} | {p99:.1f} | {errors} |")
        print(f"\ngoodput at {TIMES} times the connections: {rates[1] / rates[0]:.0%}")
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main()

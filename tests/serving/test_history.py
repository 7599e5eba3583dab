"""One contract for every history store, then what only one of them can get wrong."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import RequestError, StateError
from serving.history import Event, HistoryStore, SQLiteHistory
from serving.history_redis import RedisHistory

Open = Callable[..., HistoryStore]


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again and again, as several processes would."""
    opened: list[HistoryStore] = []

    def connect(**options: float) -> HistoryStore:
        options = {"timeout": 2.0} | options
        if request.param == "sqlite":
            store: HistoryStore = SQLiteHistory(tmp_path / "state.db", **options)
        else:
            url = request.getfixturevalue("redis_server").url
            store = RedisHistory(url, prefix=f"{tmp_path}:", **options)
        opened.append(store)
        return store

    yield connect
    for store in opened:
        store.close()


def views(*items: int | str, start: int = 1) -> list[Event]:
    return [Event(item, start + number, "view") for number, item in enumerate(items)]


class TestContract:
    def test_what_goes_in_comes_out_oldest_first(self, open_store: Open) -> None:
        store = open_store()
        events = [Event(7, 5, "view"), Event("seven", 6, "buy"), Event(-3, 7, "view")]
        store.append("ada", events[:1])
        store.append("ada", events[1:])
        assert store.last("ada", 10) == events
        assert store.last("ada", 2) == events[1:]
        assert store.last("ada", 0) == []
        assert store.last("bob", 10) == []

    def test_ids_keep_their_type(self, open_store: Open) -> None:
        store = open_store()
        events = views(1, "1", 1 << 62, -(1 << 63), '"', "ü\x00\ud800")
        store.append(1, events)
        assert store.last(1, 10) == events
        assert store.last("1", 10) == events, "a user is the same, typed either way"
        assert store.last("ü\x00\ud800", 10) == []

    def test_the_cap_keeps_the_last_appended(self, open_store: Open) -> None:
        store = open_store(cap=3)
        store.append("ada", views(1, 2))
        store.append("ada", views(3, 4, start=3))
        assert [event.item for event in store.last("ada", 10)] == [2, 3, 4]
        store.append("ada", views(*range(10, 20), start=10))
        assert [event.item for event in store.last("ada", 10)] == [17, 18, 19]

    def test_late_arrivals_find_their_place_and_repeats_count_once(self, open_store: Open) -> None:
        store = open_store()
        late, early = Event(1, 9, "view"), Event(2, 4, "view")
        store.append("ada", [late])
        store.append("ada", [early, late])
        assert store.last("ada", 10) == [early, late]
        assert store.last("ada", 1) == [late]

    def test_a_history_ends_ttl_after_its_last_event(self, open_store: Open) -> None:
        store = open_store(ttl=0.4)
        store.append("ada", views(1))
        time.sleep(0.25)
        store.append("ada", views(2, start=2))
        time.sleep(0.25)
        assert len(store.last("ada", 10)) == 2, "the append gave it another ttl"
        time.sleep(0.3)
        assert store.last("ada", 10) == []
        store.append("ada", views(3))
        assert [event.item for event in store.last("ada", 10)] == [3], "expired events came back"

    def test_forgotten_is_gone(self, open_store: Open) -> None:
        store = open_store()
        store.append("ada", views(1))
        store.append("bob", views(2))
        store.forget("ada")
        assert store.last("ada", 10) == []
        assert store.last("bob", 10) == views(2)

    def test_an_impossible_time_is_refused_whole(self, open_store: Open) -> None:
        store = open_store()
        with pytest.raises(RequestError, match="microseconds"):
            store.append("ada", [Event(1, 1, "view"), Event(1, 1 << 60, "view")])
        assert store.last("ada", 10) == []

    def test_another_connection_sees_it_at_once(self, open_store: Open) -> None:
        first, second = open_store(), open_store()
        first.append("ada", views("a"))
        second.append("ada", views("b", start=2))
        first.append("ada", views("c", start=3))
        assert [event.item for event in second.last("ada", 10)] == ["a", "b", "c"]

    def test_threads_lose_nothing(self, open_store: Open) -> None:
        stores = [open_store(), open_store()]
        failed: list[Exception] = []

        def write(number: int) -> None:
            try:
                for step in range(40):
                    stores[number % 2].append("ada", [Event(number, step, f"event {number}")])
                    stores[number % 2].last("ada", 5)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        found = stores[0].last("ada", 1000)
        expected = {
            Event(number, step, f"event {number}") for number in range(4) for step in range(40)
        }
        assert set(found) == expected

    def test_ping_passes(self, open_store: Open) -> None:
        open_store().ping()

    @given(data=st.data())
    @settings(
        max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_any_appends_are_the_sorted_tail_of_what_was_appended(
        self, open_store: Open, data: st.DataObject
    ) -> None:
        item = st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=4)
        event = st.builds(
            Event,
            item,
            st.integers(-(1 << 54) + 1, (1 << 54) - 1),
            st.sampled_from(["view", "buy"]),
        )
        appends = data.draw(st.lists(st.lists(event, max_size=6), max_size=4))
        store = open_store(cap=7)
        store.forget("ada")
        for events in appends:
            store.append("ada", events)
        kept = [event for events in appends for event in events][-7:]
        ordered = sorted(dict.fromkeys(kept), key=lambda event: event.timestamp)
        assert store.last("ada", 5) == ordered[-5:]


WRITER = """
import sys
from pathlib import Path
from serving.history import Event, SQLiteHistory
store = SQLiteHistory(Path(sys.argv[1]), cap=100_000, timeout=30.0)
for step in range(int(sys.argv[3])):
    store.append("ada", [Event(f"{sys.argv[2]}-{step}", step, "view")])
    print(step, flush=True)
"""


def start_writer(path: Path, name: str, steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_write_one_file_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    writers = [start_writer(path, name, 200) for name in "abc"]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    found = {event.item for event in SQLiteHistory(path, cap=100_000).last("ada", 10_000)}
    assert found == {f"{name}-{step}" for name in "abc" for step in range(200)}


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    for round_number in range(3):
        writer = start_writer(path, f"r{round_number}", 100_000)
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(50 + 17 * round_number)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.stdout.read().split("\n")[:-1]
        writer.wait()
        writer.stdout.close()
        store = SQLiteHistory(path, cap=100_000)
        found = {event.item for event in store.last("ada", 100_000)}
        assert {f"r{round_number}-{step}" for step in acknowledged if step} <= found
        store.close()


def test_sqlite_held_by_another_writer_is_lost_within_the_time_out(tmp_path: Path) -> None:
    store = SQLiteHistory(tmp_path / "state.db", timeout=0.1)
    store.append("ada", views(1))
    holder = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(StateError, match="locked"):
        store.append("ada", views(2))
    assert time.monotonic() - started < 1.0
    assert store.last("ada", 10) == views(1), "readers do not wait for a writer"
    holder.execute("ROLLBACK")
    holder.close()
    store.append("ada", views(2, start=2))
    store.close()


def test_a_file_that_is_no_database_is_a_state_error(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is not a database, and long enough to be sure of that" * 20)
    with pytest.raises(StateError, match="not a database"):
        SQLiteHistory(path)


def test_expired_histories_leave_the_file(tmp_path: Path) -> None:
    store = SQLiteHistory(tmp_path / "state.db", ttl=0.01, timeout=2.0)
    for user in range(1_100):
        store.append(user, views(1))
    time.sleep(0.05)
    for _ in range(1_000):
        store.append("ada", views(1))
    store.close()
    with sqlite3.connect(tmp_path / "state.db") as database:
        assert database.execute("SELECT count(*) FROM histories").fetchone()[0] < 100
    database.close()


def test_the_write_ahead_log_stays_small_beside_readers(tmp_path: Path) -> None:
    store = SQLiteHistory(tmp_path / "state.db", timeout=2.0)
    for step in range(3_000):
        store.append(step % 50, [Event(step, step, "view")])
        store.last(step % 50, 50)
    assert (tmp_path / "state.db-wal").stat().st_size < 8 << 20
    store.close()


def test_redis_stopped_or_frozen_is_lost_within_the_time_out_and_found_again(
    redis_server: Any,
) -> None:
    store = RedisHistory(redis_server.url, timeout=0.1, prefix="loss:")
    store.append("ada", views(1))
    for lose, restore in (
        (redis_server.freeze, redis_server.thaw),
        (redis_server.stop, redis_server.start),
    ):
        lose()
        started = time.monotonic()
        with pytest.raises(StateError):
            store.last("ada", 10)
        with pytest.raises(StateError):
            store.append("ada", views(2))
        assert time.monotonic() - started < 1.0
        restore()
        store.ping()
    store.close()


def test_a_url_that_is_none_is_a_state_error() -> None:
    with pytest.raises(StateError, match="not a Redis url"):
        RedisHistory("http://secret@example.org")

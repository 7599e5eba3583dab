"""The breaker fails fast while the store is lost, and comes back by itself."""

import threading
import time
from collections.abc import Sequence

import pytest

from serving.breaker import GuardedHistory
from serving.errors import RequestError, StateError
from serving.history import Event


class Shaky:
    """A store that is lost while told so."""

    def __init__(self) -> None:
        self.lost, self.calls, self.slow = False, 0, 0.0

    def append(self, user: int | str, events: Sequence[Event]) -> None:
        self.ping()

    def last(self, user: int | str, n: int) -> list[Event]:
        self.ping()
        return [Event(1, 1, "view")]

    def forget(self, user: int | str) -> None:
        self.ping()

    def ping(self) -> None:
        self.calls += 1
        time.sleep(self.slow)
        if self.lost:
            raise StateError("lost")

    def close(self) -> None:
        pass


def test_it_opens_after_failures_in_a_row_and_then_asks_nothing() -> None:
    store = Shaky()
    guarded = GuardedHistory(store, failures=3, cooldown=60)
    assert guarded.last("ada", 1) == [Event(1, 1, "view")]
    store.lost = True
    for _ in range(10):
        with pytest.raises(StateError):
            guarded.last("ada", 1)
    assert guarded.is_open
    assert store.calls == 1 + 3, "the store is left alone once it counts as lost"
    assert guarded.errors == 3


def test_a_success_between_failures_keeps_it_closed() -> None:
    store = Shaky()
    guarded = GuardedHistory(store, failures=2, cooldown=60)
    for _ in range(5):
        store.lost = True
        with pytest.raises(StateError):
            guarded.ping()
        store.lost = False
        guarded.ping()
    assert not guarded.is_open


def test_it_closes_again_when_the_store_is_back() -> None:
    store = Shaky()
    guarded = GuardedHistory(store, failures=1, cooldown=0.05)
    store.lost = True
    with pytest.raises(StateError):
        guarded.ping()
    store.lost = False
    with pytest.raises(StateError, match="next attempt"):
        guarded.ping()
    time.sleep(0.06)
    guarded.ping()
    assert not guarded.is_open


def test_while_open_one_caller_at_a_time_tries() -> None:
    store = Shaky()
    guarded = GuardedHistory(store, failures=1, cooldown=0.05)
    store.lost = True
    with pytest.raises(StateError):
        guarded.ping()
    before, store.slow = store.calls, 0.04
    time.sleep(0.06)

    def ask() -> None:
        with pytest.raises(StateError):
            guarded.ping()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.calls == before + 1


def test_a_caller_s_mistake_is_no_failure_of_the_store() -> None:
    class Picky(Shaky):
        def ping(self) -> None:
            raise RequestError("not like this")

    guarded = GuardedHistory(Picky(), failures=1)
    with pytest.raises(RequestError):
        guarded.ping()
    assert not guarded.is_open

"""The splits against a plain double loop over each user's events, on random logs."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from features.config import GlobalTime, LastDays, LastSession, LeaveOneOut, SplitConfig
from features.errors import InputError
from features.layout import CUTS
from features.sequences import Sequences, group_by_user
from features.splits import DAY, between, boundaries, shift_cuts, split_sequences

TYPES = ("buy", "view")


def random_sequences(seed: int, *, users: int = 40, events: int = 300) -> Sequences:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 30, events)) * DAY // 4  # many at the same time
    log = pl.DataFrame(
        {
            "user_id": rng.integers(0, users, events),
            "item_id": rng.integers(0, 20, events),
            "timestamp": pl.Series(times).cast(pl.Datetime("us")),
            "event": rng.choice(TYPES, events, p=[0.3, 0.7]),
        }
    )
    return group_by_user(log, TYPES)


@dataclass
class User:
    """One user's rows by part, as lists of row numbers."""

    train: list[int]
    validation_history: list[int]
    validation: list[int]
    test_history: list[int]
    test: list[int]


def read_cuts(cuts: dict[str, NDArray[np.int64]]) -> list[User]:
    rows = zip(*(cuts[name].tolist() for name in CUTS), strict=True)
    return [
        User(
            list(range(start, train_end)),
            list(range(start, v1)) if v2 > v1 else [],
            list(range(v1, v2)),
            list(range(start, t1)) if t2 > t1 else [],
            list(range(t1, t2)),
        )
        for start, train_end, v1, v2, t1, t2 in rows
    ]


def hold_out_by_definition(blocks: list[list[int]], target: NDArray[np.bool_]) -> User:
    everything = [row for block in blocks for row in block]
    with_target = [block for block in blocks if any(target[row] for row in block)]
    if len(with_target) < 2 or with_target[-2][0] == everything[0]:
        return User(everything, [], [], [], [])
    validation, test = with_target[-2:]
    before = [row for row in everything if row < validation[0]]
    return User(before, before, validation, [row for row in everything if row < test[0]], test)


@pytest.mark.parametrize("only_buys", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_leave_one_out_equals_its_definition(seed: int, only_buys: bool) -> None:
    log = random_sequences(seed)
    target = (log.events == 1) if only_buys else np.ones(len(log), np.bool_)
    cuts, _ = split_sequences(log, LeaveOneOut(), target)
    for u, found in enumerate(read_cuts(dict(cuts))):
        rows = list(range(log.offsets[u], log.offsets[u + 1]))
        expected = hold_out_by_definition([[row] for row in rows], target)
        assert found == expected
        assert not found.test or (target[found.test[0]] and target[found.validation[0]])


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_last_session_equals_its_definition(seed: int, named: bool) -> None:
    log = random_sequences(seed)
    if named:
        codes = np.random.default_rng(seed).integers(0, 3, len(log))
        log = Sequences(log.users, log.offsets, log.raw_items, log.timestamps, log.events, codes)
    target = log.events == 1
    cuts, _ = split_sequences(log, LastSession(gap_minutes=24 * 60), target)
    for u, found in enumerate(read_cuts(dict(cuts))):
        sessions: list[list[int]] = []
        for row in range(log.offsets[u], log.offsets[u + 1]):
            previous = sessions[-1][-1] if sessions else -1
            if not sessions or (
                log.sessions[row] != log.sessions[previous]
                if named
                else log.timestamps[row] - log.timestamps[previous] > DAY
            ):
                sessions.append([])
            sessions[-1].append(row)
        assert found == hold_out_by_definition(sessions, target)


@pytest.mark.parametrize(
    "config",
    [GlobalTime(), GlobalTime(validation=0.2, test=0.3), LastDays(validation_days=1, test_days=2)],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_split_by_time_cuts_everybody_at_the_same_instants(
    seed: int, config: GlobalTime | LastDays
) -> None:
    log = random_sequences(seed)
    cuts, described = split_sequences(log, config, np.ones(len(log), np.bool_))
    first, second = described["validation_from"], described["test_from"]
    for u, found in enumerate(read_cuts(dict(cuts))):
        rows = range(log.offsets[u], log.offsets[u + 1])
        assert found.train == [r for r in rows if log.timestamps[r] < first]
        assert found.validation == [r for r in rows if first <= log.timestamps[r] < second]
        assert found.test == [r for r in rows if second <= log.timestamps[r]]
        if found.test:
            assert found.test_history == found.train + found.validation
    assert described["name"] == config.name


def test_boundaries_by_share_and_by_days() -> None:
    hundred = np.arange(100, dtype=np.int64) * DAY
    assert boundaries(hundred, GlobalTime(validation=0.2, test=0.1)) == (70 * DAY, 90 * DAY)
    # The last three days, up to and including the newest event, are (96, 99].
    first, second = boundaries(hundred, LastDays(validation_days=2, test_days=3))
    assert (first, second) == (94 * DAY + 1, 96 * DAY + 1)


def test_users_with_two_events_train_and_are_not_tested() -> None:
    log = Sequences(
        pa.array(["short", "long"]),
        np.array([0, 2, 5]),
        pa.array([1, 2, 3, 4, 5]),
        np.arange(5),
        np.ones(5, np.uint8),
        np.empty(0, np.int64),
    )
    cuts, _ = split_sequences(log, LeaveOneOut(), np.ones(5, np.bool_))
    short, long = read_cuts(dict(cuts))
    assert short == User([0, 1], [], [], [], [])
    assert long == User([2], [2], [3], [2, 3], [4])


def test_events_after_the_test_target_are_dropped_and_cuts_follow() -> None:
    log = random_sequences(1)
    target = log.events == 1
    cuts, _ = split_sequences(log, LeaveOneOut(), target)
    short = log.truncate(cuts["test_end"])
    moved = shift_cuts(cuts, short.offsets)
    assert 0 < len(short) < len(log)
    np.testing.assert_array_equal(moved["test_end"], short.offsets[1:])
    for name in CUTS[:-1]:  # the event at every cut is the same one as before
        inside = cuts[name] < cuts["test_end"]
        for values, kept in ((log.timestamps, short.timestamps), (log.events, short.events)):
            np.testing.assert_array_equal(values[cuts[name][inside]], kept[moved[name][inside]])
    rows = between(cuts, "start", "test_end", len(log))
    assert short.raw_items.to_pylist() == np.array(log.raw_items.to_pylist())[rows].tolist()


@pytest.mark.parametrize(
    ("config", "only", "message"),
    [
        (LeaveOneOut(), 99, r"^the leave-one-out split of 300 events of .* leaves no event to val"),
        (LastDays(validation_days=90), 1, "leaves no event to training "),
        (LastDays(validation_days=0.001, test_days=0.001), 1, "leaves no event to validation "),
    ],
)
def test_an_empty_part_is_refused(config: SplitConfig, only: int, message: str) -> None:
    log = random_sequences(0)
    with pytest.raises(InputError, match=message):
        split_sequences(log, config, log.events == only)

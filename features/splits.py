"""Where each user's training part ends and the targets of validation and test begin.

All splits give the cut points of `features.layout.CUTS`: a case's history is everything of the
user before its targets, so nothing of the user's own future is ever input.

Time (`GlobalTime`, `LastDays`)
    Two instants for everybody. Training < validation_from <= validation < test_from <= test.
    A user's targets are all their events in the window. A user without earlier events is a cold
    user: the case has an empty history (start == test_start). Events of other behaviours than
    the target ones lie within the ranges too: evaluation picks the targets by behaviour code.

    With `cases = "prefixes"` (kept in `DatasetSchema.split`) `features.store` reads each event of a
    window as a case of its own, with all the user's events before it as history.

Sessions by time (`SessionTime`)
    Each session is a user of its own, and belongs to the part in which it begins. A training
    session is cut at `validation_from`, a validation session at `test_from`; what follows there is
    dropped. All sessions of validation and test have their first event at `<split>_start`, and
    the cases are their prefixes of one event and more.

Held-out blocks (`LeaveOneOut`: a block is one event; `LastSession`: one session)
    The test block is the user's last one with a target behaviour, the validation block the last
    one before it. Events between the two belong to the history of test, and not to training.
    Events after the test block are dropped from the dataset. A user needs two such blocks and at
    least one event before them; otherwise all their events are training and no case is made.
    So a user with fewer than three events is never tested.

Held-out users (`HeldOutUsers`: `features.held_out`)
    A user trains whole, validates or tests. The first share of a held-out user's events is history
    (test_start is where it ends, train_end == start), the others are targets.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.config import (
    GlobalTime,
    HeldOutUsers,
    LastDays,
    LastSession,
    LeaveOneOut,
    SessionTime,
    SplitConfig,
)
from features.errors import InputError
from features.held_out import hold_out_users
from features.layout import CUTS
from features.sequences import Rows, Sequences, session_starts

DAY = 86_400_000_000
"""Microseconds."""
MINUTE = 60_000_000
"""Microseconds."""

Cuts = Mapping[str, Rows]


def split_sequences(
    sequences: Sequences,
    config: SplitConfig,
    is_target: NDArray[np.bool_],
    of_users: Mapping[str, NDArray] | None = None,
) -> tuple[Cuts, dict[str, Any]]:
    """Cut points by name, (U,) each, and the split as `DatasetSchema.split` describes it.

    is_target: (E,) whether the event's behaviour is one to predict. of_users: columns of the table
    of users that `HeldOutUsers` names, (U,). Raises InputError when a part would be empty.
    """
    instants = None
    if isinstance(config, GlobalTime | LastDays | SessionTime):
        instants = boundaries(sequences.timestamps, config)
    if isinstance(config, HeldOutUsers):
        cuts = hold_out_users(sequences.offsets, sequences.timestamps, config, of_users or {})
    else:
        cuts = cut_points(sequences, config, instants, is_target)
    refuse_empty(count_events(cuts, is_target), len(sequences), len(cuts["start"]), config.name)
    return cuts, describe_split(config, instants)


def describe_split(config: SplitConfig, instants: tuple[int, int] | None) -> dict[str, Any]:
    """The split as `DatasetSchema.split` has it."""
    described = asdict(config)
    if described.get("cases") == "window":  # as datasets were before there was a choice
        del described["cases"]
    if instants is not None:
        described |= {"validation_from": instants[0], "test_from": instants[1]}
    return described


def cut_points(
    sequences: Sequences,
    config: SplitConfig,
    instants: tuple[int, int] | None,
    is_target: NDArray[np.bool_],
) -> Cuts:
    """Cut points by name, (U,) each; instants: of a split by time, the start of each window."""
    match config:
        case LeaveOneOut():
            return hold_out_last(sequences.offsets, np.arange(len(sequences)), is_target)
        case LastSession():
            starts = session_starts(sequences, round(config.gap_minutes * MINUTE))
            return hold_out_last(sequences.offsets, starts, is_target)
        case SessionTime():
            assert instants is not None
            return split_sessions(sequences.offsets, sequences.timestamps, *instants)
        case GlobalTime() | LastDays():
            assert instants is not None
            return split_at(sequences.offsets, sequences.timestamps, *instants)
        case HeldOutUsers():
            raise InputError(
                "the held-out-users split looks at all users at once: it cuts no log in parts"
            )


def boundaries(timestamps: Rows, config: GlobalTime | LastDays | SessionTime) -> tuple[int, int]:
    """First microsecond of the validation window and of the test window.

    By share: the test window starts at the time of the event at rank floor((1 - test) E), so it
    has at least that share (all events of one time fall on one side). By days: the windows are
    the last days up to and including the newest event.
    """
    if isinstance(config, LastDays | SessionTime):
        return windows(int(timestamps.max()), config)
    ranks = quantile_ranks(config, len(timestamps))
    ordered = np.partition(timestamps, ranks)
    return int(ordered[ranks[0]]), int(ordered[ranks[1]])


def windows(newest: int, config: LastDays | SessionTime) -> tuple[int, int]:
    """The instants of windows in days, given the time of the newest event."""
    second = newest + 1 - round(config.test_days * DAY)
    return second - round(config.validation_days * DAY), second


def quantile_ranks(config: GlobalTime, num_events: int) -> tuple[int, int]:
    """Ranks, from 0 in order of time, of the events at which the windows of `GlobalTime` begin."""
    first = int((1 - config.test - config.validation) * num_events)
    return first, int((1 - config.test) * num_events)


def split_at(offsets: Rows, timestamps: Rows, validation_from: int, test_from: int) -> Cuts:
    """Cut every user at the same two instants."""
    start, end = offsets[:-1], offsets[1:]
    first = start + np.add.reduceat(timestamps < validation_from, start, dtype=np.int64)
    second = start + np.add.reduceat(timestamps < test_from, start, dtype=np.int64)
    return dict(zip(CUTS, (start, first, first, second, second, end), strict=True))


def split_sessions(offsets: Rows, timestamps: Rows, validation_from: int, test_from: int) -> Cuts:
    """Give each session, a user of its own, to the part in which it begins, and cut it there."""
    start = offsets[:-1]
    plain = split_at(offsets, timestamps, validation_from, test_from)
    train_end = np.where(timestamps[start] < validation_from, plain["train_end"], start)
    validates = (train_end == start) & (timestamps[start] < test_from)
    validation_end = np.where(validates, plain["validation_end"], train_end)
    tests = timestamps[start] >= test_from
    test_end = np.where(tests, plain["test_end"], validation_end)
    ends = (start, train_end, train_end, validation_end, validation_end, test_end)
    return dict(zip(CUTS, ends, strict=True))


def hold_out_last(offsets: Rows, block_starts: Rows, is_target: NDArray[np.bool_]) -> Cuts:
    """Hold out each user's last two blocks with a target; `test_end` may lie before the end.

    block_starts: first rows of the blocks, ascending, among them the first row of every user.
    """
    start, end = offsets[:-1], offsets[1:]
    block_ends = np.append(block_starts[1:], offsets[-1])
    blocks = np.flatnonzero(np.logical_or.reduceat(is_target, block_starts))
    owners = np.searchsorted(offsets, block_starts[blocks], side="right") - 1
    counts = np.bincount(owners, minlength=len(start))
    last = np.cumsum(counts) - 1  # place in `blocks` of each user's last block with a target
    users = np.flatnonzero(counts >= 2)
    users = users[block_starts[blocks[last[users] - 1]] > start[users]]
    test, validation = blocks[last[users]], blocks[last[users] - 1]
    cuts = {name: end.copy() for name in CUTS} | {"start": start}
    cuts["train_end"][users] = cuts["validation_start"][users] = block_starts[validation]
    cuts["validation_end"][users] = block_ends[validation]
    cuts["test_start"][users], cuts["test_end"][users] = block_starts[test], block_ends[test]
    return cuts


def shift_cuts(cuts: Cuts, offsets: Rows) -> Cuts:
    """The cut points after the users' parts moved to `offsets`."""
    return {name: rows - cuts["start"] + offsets[:-1] for name, rows in cuts.items()}


def between(cuts: Cuts, first: str, last: str, num_events: int) -> NDArray[np.bool_]:
    """True for the rows in [first, last) of any user, (E,)."""
    edges = np.zeros(num_events + 1, np.int64)
    np.add.at(edges, cuts[first], 1)
    np.add.at(edges, cuts[last], -1)
    return np.cumsum(edges[:-1]) > 0


def count_events(cuts: Cuts, is_target: NDArray[np.bool_]) -> dict[str, int]:
    """Events of training, and events of target behaviours of validation and test."""
    counts = {"training": int((cuts["train_end"] - cuts["start"]).sum())}
    for part in ("validation", "test"):
        inside = between(cuts, f"{part}_start", f"{part}_end", len(is_target))
        counts[part] = int(is_target[inside].sum())
    return counts


def refuse_empty(counts: Mapping[str, int], num_events: int, num_users: int, name: str) -> None:
    """Raise InputError where a part of the split has nothing."""
    if empty := [part for part, events in counts.items() if not events]:
        found = ", ".join(f"{part} {events}" for part, events in counts.items())
        raise InputError(
            f"the {name} split of {num_events} events of {num_users} users leaves "
            f"no event to {' and '.join(empty)} (found: {found}; in validation and test only "
            f"target behaviours count): choose other windows or another split"
        )

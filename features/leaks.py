"""Proof that a finished dataset knows nothing of the future. Runs at the end of every build.

It reads the files as training will, and shares no code with what made them. Proven are

1. order: each user's cut points ascend, users do not overlap, times never go back in a user;
2. history before target: no training event of a user is later than the user's first target; and
   for a split by time, no training event of ANY user is at or after the validation window, and
   no validation event is at or after the test window;
3. warm items: ids 1..num_warm_items are exactly those of training events;
4. timeline: what the ranking features know of an item, of each behaviour on it and of what
   followed it counts no test event;
5. vocabularies: every known value, every edge of a bucket, and every token of a tokenizer
   that was trained here, occurs in a warm item.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from features.items import PATH_SEPARATOR, flat, training_texts
from features.layout import (
    CATALOGUE,
    CUTS,
    EVENTS,
    TOKENIZER,
    USERS,
    DatasetSchema,
    ItemColumn,
    vocabulary_file,
)
from features.store import read_table, to_arrays
from features.text import alien_tokens
from features.timeline import ItemTimeline

BLOCK = 1 << 22
"""Events that are held at once, about."""
LAST_DAY = 2**31 - 1
"""After every day that a timeline can hold."""
Arrays = dict[str, NDArray]


class LeakError(AssertionError):
    """A dataset in which training knows the future: a fault of this package, not of the data."""


def prove_no_leak(directory: Path) -> None:
    """Raise LeakError unless the files of a dataset, finished but for its manifest, are clean."""
    schema = DatasetSchema.read(directory)
    events, users = (
        to_arrays(read_table(directory / EVENTS)),
        to_arrays(read_table(directory / USERS)),
    )
    prove_order(events, users)
    prove_history_before_target(events, users, schema)
    prove_warm_items(events, users, schema)
    known = ItemTimeline.open(directory)
    prove_timeline(events, users, known)
    prove_covisits(events, users, known, schema)
    prove_vocabularies(directory, schema)


def blocks(events: Arrays, users: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
    """The users some thousands of events at a time, with cut points into the block's events."""
    num_events, starts = len(events["item_id"]), users["start"]
    wanted = np.arange(BLOCK, num_events, BLOCK)
    edges = np.unique(np.concatenate([[0], np.searchsorted(starts, wanted), [len(starts)]]))
    for first, end in itertools.pairwise(edges.tolist()):
        row = 0 if first == 0 else int(starts[first])
        last = num_events if end == len(starts) else int(starts[end])
        rows = slice(row, last)
        yield (
            {name: values[rows] for name, values in events.items()},
            {name: cuts[first:end] - row for name, cuts in users.items()},
        )


def prove_order(events: Arrays, users: Arrays) -> None:
    """Cut points ascend within [0, E], in one user and from user to user; so do a user's times."""
    edges = np.stack([users[name] for name in CUTS], axis=1)
    flat_edges = np.concatenate([[0], edges.reshape(-1), [len(events["item_id"])]])
    if falls := int((np.diff(flat_edges) < 0).sum()):
        raise LeakError(f"{falls} cut points of {len(edges)} users lie before the one they follow")
    count, first, row = 0, 0, 0
    for block, cuts in blocks(events, users):
        backwards = np.diff(block["timestamp"]) < 0
        backwards[cuts["start"][1:] - 1] = False  # from one user to the next
        if backwards.any() and not count:
            first = row + int(np.argmax(backwards)) + 1
        count += int(backwards.sum())
        row += len(block["timestamp"])
    if count:
        raise LeakError(
            f"{count} events are older than their user's event before, first row {first}"
        )


def prove_history_before_target(events: Arrays, users: Arrays, schema: DatasetSchema) -> None:
    """No training event lies after its user's first target, nor in a window held out by time."""
    times = events["timestamp"]
    trained = users["train_end"] > users["start"]
    newest = np.where(trained, times[users["train_end"] - 1], np.iinfo(np.int64).min)
    if newest.max() != schema.cutoff:
        raise LeakError(f"the newest training event is at {newest.max()}, not at {schema.cutoff}")
    for split in ("validation", "test"):
        first, last = users[f"{split}_start"], users[f"{split}_end"]
        cases = np.flatnonzero(last > first)
        late = (newest[cases] > times[first[cases]]) | (users["train_end"][cases] > first[cases])
        if late.any():
            raise LeakError(
                f"{late.sum()} users train on events after their first {split} target, "
                f"first user row {cases[np.argmax(late)]}"
            )
        window = schema.split.get(f"{split}_from")
        if window is not None and (newest.max() >= window or (times[first[cases]] < window).any()):
            raise LeakError(f"an event of the {split} window, from {window}, is used before it")
    after = schema.split.get("test_from")
    validated = np.flatnonzero(users["validation_end"] > users["validation_start"])
    if after is not None and (times[users["validation_end"][validated] - 1] >= after).any():
        raise LeakError(f"a validation target lies in the test window, from {after}")


def prove_warm_items(events: Arrays, users: Arrays, schema: DatasetSchema) -> None:
    """Ids 1..num_warm_items are the items of training events, all of them and no others."""
    seen = np.zeros(schema.num_items + 1, np.bool_)
    for block, cuts in blocks(events, users):
        seen[block["item_id"][rows_before(cuts, "train_end", len(block["item_id"]))]] = True
    expected = np.arange(schema.num_items + 1) <= schema.num_warm_items
    expected[0] = False
    wrong = np.flatnonzero(seen != expected)
    if schema.grown and len(wrong[wrong <= schema.num_warm_items]) == schema.num_untrained_items:
        wrong = wrong[wrong > schema.num_warm_items]  # ids that are kept, whatever became of them
    if wrong := wrong.tolist():
        raise LeakError(
            f"{len(wrong)} items are on the wrong side of num_warm_items={schema.num_warm_items}, "
            f"first ids {wrong[:3]}"
        )


def prove_timeline(events: Arrays, users: Arrays, timeline: ItemTimeline) -> None:
    """The timelines count of each item its events before the users' test targets, and no others."""
    num_ids, opened = int(timeline.key[-1] >> 32) + 1, (timeline, *timeline.behaviours)
    counts_FI = np.zeros((len(opened), num_ids), np.int64)
    for block, cuts in blocks(events, users):
        known = rows_before(cuts, "test_start", len(block["item_id"]))
        items, behaviours = block["item_id"][known], block["event"][known]
        cells = behaviours.astype(np.int64) * num_ids + items
        counts_FI[0] += np.bincount(items, minlength=num_ids)
        if len(opened) > 1:
            counts_FI[1:] += np.bincount(cells, minlength=counts_FI.size).reshape(-1, num_ids)[1:]
    counts_FI[:, 0] = counts_FI.sum(1)  # item 0 holds all items together
    for counts, one in zip(counts_FI, opened, strict=True):
        last = one.rows_before(np.arange(num_ids), np.full(num_ids, LAST_DAY))
        if wrong := np.flatnonzero(one.total[last] != counts).tolist():
            raise LeakError(
                f"the timeline of {len(wrong)} items counts other events than those before the "
                f"test targets, first ids {wrong[:3]}"
            )


def prove_covisits(
    events: Arrays, users: Arrays, known: ItemTimeline, schema: DatasetSchema
) -> None:
    """Of each item as many events followed as did before the users' test targets."""
    reach, covisits = schema.covisit_reach, known.covisits
    if (covisits is None) != (reach == 0):
        raise LeakError(f"covisit_reach is {reach}, and there are {covisits and 'some'} co-visits")
    if covisits is None:
        return
    counts = np.zeros(schema.num_items + 1, np.int64)
    for block, cuts in blocks(events, users):
        items = block["item_id"]
        counted = rows_before(cuts, "test_start", len(items))
        owner = np.searchsorted(cuts["start"], np.arange(len(items)), side="right")
        for lag in range(1, reach + 1):
            pair = (owner[lag:] == owner[:-lag]) & counted[lag:] & (items[lag:] != items[:-lag])
            counts += np.bincount(items[:-lag][pair], minlength=len(counts))
    every = np.arange(len(counts))
    found = covisits.count(every, np.zeros_like(every), np.full(len(counts), LAST_DAY))
    if wrong := np.flatnonzero(found != counts).tolist():
        raise LeakError(
            f"the co-visits of {len(wrong)} items count other events than those before the test "
            f"targets, first ids {wrong[:3]}"
        )


def rows_before(users: Arrays, cut: str, num_events: int) -> NDArray[np.bool_]:
    """True for the events before their user's `cut`, (E,)."""
    depth = np.zeros(num_events + 1, np.int64)
    np.add.at(depth, users["start"], 1)
    np.add.at(depth, users[cut], -1)
    return np.cumsum(depth[:-1]) > 0


def prove_vocabularies(directory: Path, schema: DatasetSchema) -> None:
    """Every known value of a category column, and every token, occurs in a warm item."""
    catalogue = pl.read_parquet(directory / CATALOGUE)
    warm = catalogue.head(schema.num_warm_items)
    for column in schema.item_columns:
        if column.kind not in ("category", "categories"):
            continue
        known, held = known_and_held(directory, column, warm)
        if alien := known.filter(~known.is_in(held.implode())).to_list():
            raise LeakError(
                f"{len(alien)} values of {column.name} are known and occur in no training item, "
                f"first {alien[:3]}"
            )
    texts = [column.name for column in schema.item_columns if column.kind == "text"]
    if texts and schema.tokenizer == "trained":
        tokenizer = Tokenizer.from_file(str(directory / TOKENIZER))
        if alien := alien_tokens(
            tokenizer, training_texts(catalogue, schema.num_warm_items, texts)
        ):
            raise LeakError(
                f"{len(alien)} tokens occur in the text of no training item, first {alien[:3]}"
            )


def known_and_held(
    directory: Path, column: ItemColumn, warm: pl.DataFrame
) -> tuple[pl.Series, pl.Series]:
    """What a category column was fitted to, and what the warm items hold of it."""
    values = warm[column.source or column.name]
    if column.edges:
        return pl.Series(column.edges).cast(pl.Float32), values.cast(pl.Float32).unique()
    known = pl.Series(pl.from_arrow(read_table(directory / vocabulary_file(column.name))["id"]))
    if values.dtype == pl.List and column.source:
        level = int(column.name.removeprefix(f"{column.source}."))
        values = values.filter(values.list.len() >= level)
        return known, values.list.head(level).list.join(PATH_SEPARATOR).unique()
    if column.source:  # a bucket column without edges: all numbers are alike
        return known.clear(), values
    return known, flat(values).unique()

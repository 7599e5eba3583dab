"""Which features know the future: recompute them with the future cut off, and compare.

A feature of an event at time t may depend on events before t only. So cut the log at an instant,
compute again, and look at what came before: a value that has changed knew what came after.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.asof import Facts, feature_names, ranking_features
from features.covisits import count_pairs, write_covisits
from features.encode import Histories
from features.errors import InputError
from features.leaks import rows_before
from features.store import Dataset
from features.timeline import ItemTimeline, write_timelines

SHOWN = 3
KEYS = ("user_id", "item_id", "timestamp", "event")
TOLERANCE = 1e-6
Compute = Callable[[pl.DataFrame], pl.DataFrame]
"""Events, a row each, to the same rows in the same order with columns of the user's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A feature that knows the future."""

    feature: str
    changed: int
    compared: int
    examples: tuple[dict[str, str], ...]
    """Rows with the value as computed, and as computed without the future."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was looked at, and what leaks."""

    features: tuple[str, ...]
    cuts: int
    leaks: tuple[Leak, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def audit_columns(events: pl.DataFrame, compute: Compute, *, cuts: int = 5) -> Audit:
    """Audit columns of the user's own over a log in time order. Raises InputError.

    cuts: instants at which the future is cut off, at equal shares of the events. Rows at the
    instant itself are cut off too, so equal times count as the future of each other's past only.
    """
    whole = _computed(events, compute)
    names = [name for name in whole.columns if name not in events.columns]
    if not names:
        raise InputError("the function adds no column: nothing to audit")
    times = events["timestamp"].sort()
    ranks = [len(times) * (cut + 1) // (cuts + 1) for cut in range(cuts)]
    found: dict[str, list[pl.DataFrame]] = {name: [] for name in names}
    compared = 0
    for instant in sorted({times[rank] for rank in ranks}):
        known = pl.col("timestamp") < instant
        past = events.filter(known)
        if past.is_empty():
            continue
        cut = _computed(past, compute)
        before = whole.filter(known)
        compared += len(past)
        for name in names:
            differs = ~_equal(before[name], cut[name])
            keys = [key for key in KEYS if key in events.columns]
            rows = before.select(keys).with_columns(
                value=before[name], without_the_future=cut[name], cut_at=pl.lit(instant)
            )
            found[name].append(rows.filter(differs))
    return Audit(
        features=tuple(names),
        cuts=len(ranks),
        leaks=tuple(
            _leak(name, pl.concat(rows), compared)
            for name, rows in found.items()
            if sum(map(len, rows))
        ),
    )


def _computed(events: pl.DataFrame, compute: Compute) -> pl.DataFrame:
    made = compute(events)
    if len(made) != len(events) or not made.select(events.columns).equals(events):
        raise InputError(
            f"the function returns {len(made)} rows for {len(events)}, or others: it must return "
            f"the rows that it is given, in their order, with columns added"
        )
    return made


def _equal(left: pl.Series, right: pl.Series) -> pl.Series:
    if left.dtype.is_float() and right.dtype.is_float():
        a, b = left.fill_null(np.nan).to_numpy(), right.fill_null(np.nan).to_numpy()
        return pl.Series(np.isclose(a, b, TOLERANCE, TOLERANCE, equal_nan=True))
    return left.eq_missing(right)


def _leak(name: str, rows: pl.DataFrame, compared: int) -> Leak:
    examples = [{k: str(v) for k, v in row.items()} for row in rows.head(SHOWN).to_dicts()]
    return Leak(feature=name, changed=len(rows), compared=compared, examples=tuple(examples))


def audit_dataset(dataset: Dataset, *, cuts: int = 10, candidates: int = 50) -> Audit:
    """Audit every ranking feature of `features.asof`, on validation events drawn at random.

    The dataset's statistics, which count no test event, against those of the same events before
    each question's moment only.
    """
    columns = dataset.schema.item_columns
    facts = Facts.of(dataset.schema)
    names = feature_names(columns, (), "all", facts)
    rng = np.random.default_rng(0)
    cases = dataset.cases("validation")
    if not len(cases):
        raise InputError(f"{dataset.path} has no validation cases")
    full = ItemTimeline.open(dataset.path)
    counted = rows_before(dict(dataset.cuts), "test_start", len(dataset.items))
    found: dict[str, list[dict[str, str]]] = {name: [] for name in names}
    changed = dict.fromkeys(names, 0)
    chosen = rng.choice(len(cases), min(cuts, len(cases)), replace=False)
    width = min(candidates, dataset.schema.num_items)
    for case in chosen:
        row = int(cases.cuts[case])
        at = dataset.timestamps[row : row + 1]
        history = Histories(
            dataset.items,
            dataset.timestamps,
            dataset.events,
            cases.starts[case : case + 1],
            cases.cuts[case : case + 1],
        )
        items = rng.choice(dataset.schema.num_items, width, replace=False) + 1
        items[0] = dataset.items[row]
        with tempfile.TemporaryDirectory() as folder:
            past = np.flatnonzero(counted & (dataset.timestamps < at[0]))
            _write_statistics(Path(folder), dataset, past)
            values, without = (
                ranking_features(
                    history,
                    at,
                    items[None],
                    {},
                    known,
                    dataset.item_table,
                    columns,
                    wanted=names,
                    facts=facts,
                )[0]
                for known in (full, ItemTimeline.open(Path(folder)))
            )
        differs = ~np.isclose(values, without, TOLERANCE, TOLERANCE, equal_nan=True)
        for f, name in enumerate(names):
            changed[name] += int(differs[:, f].sum())
            for c in np.flatnonzero(differs[:, f])[: SHOWN - len(found[name])]:
                moment = np.datetime64(int(at[0]), "us")
                found[name].append(
                    {
                        "user": str(cases.users[case]),
                        "item": str(items[c]),
                        "timestamp": str(moment),
                        "value": f"{values[c, f]:g}",
                        "without_the_future": f"{without[c, f]:g}",
                    }
                )
    compared = len(chosen) * width
    leaks = [
        Leak(feature=n, changed=changed[n], compared=compared, examples=tuple(found[n]))
        for n in names
        if changed[n]
    ]
    return Audit(features=names, cuts=len(chosen), leaks=tuple(leaks))


def _write_statistics(directory: Path, dataset: Dataset, rows: NDArray[np.int64]) -> None:
    """What the ranking features know of items, over some events, ascending, alone."""
    schema, items, times = dataset.schema, dataset.items[rows], dataset.timestamps[rows]
    events, num_behaviours = dataset.events[rows], len(schema.event_types)
    write_timelines(directory, items, times, schema.num_items, events, num_behaviours)
    if schema.covisit_reach:
        owners = np.searchsorted(dataset.cuts["start"], rows, side="right")
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        ends = np.append(starts[1:], len(rows))
        write_covisits(directory, count_pairs(items, times, starts, ends, schema.covisit_reach))

"""What is asked of a dataset first: sizes, lengths, popularity, time, repeats, cold items."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.distinct import distinct
from features.store import Dataset

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
DAY = 86_400 * 1_000_000  # microseconds
CURVE = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the items, most popular first, whose share of the events is told."""
BINS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts by bin: of a chart."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Figures by section, each a name and a text, and charts."""

    name: str
    sections: dict[str, dict[str, str]]
    charts: tuple[Histogram, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        charts = {c.title: dict(zip(c.labels, c.counts, strict=True)) for c in self.charts}
        return {"dataset": self.name, **self.sections, "charts": charts}


def describe_dataset(dataset: Dataset) -> Description:
    """Describe an opened dataset. Memory: some numbers an event."""
    schema = dataset.schema
    lengths = dataset.cuts["test_end"] - dataset.cuts["start"]
    owners = np.repeat(np.arange(len(lengths)), lengths)
    times = dataset.timestamps
    popularity = np.bincount(dataset.items, minlength=schema.num_items + 1)[1:]
    gaps = np.diff(times)[np.diff(owners) == 0] / DAY
    pairs = owners * (schema.num_items + 1) + dataset.items
    num_pairs = len(distinct(pairs))
    events = len(dataset.items)
    same = np.diff(owners) == 0
    duplicates = same & (np.diff(times) == 0) & (np.diff(dataset.items) == 0)
    ties = same & (np.diff(times) == 0)
    cells = schema.num_users * schema.num_items
    sizes = {
        "users": f"{schema.num_users:,}",
        "items": f"{schema.num_items:,} ({schema.num_warm_items:,} in training)",
        "events": f"{events:,}",
        "density": f"{num_pairs / max(cells, 1):.4%} of user-item pairs",
        "behaviours": ", ".join(
            f"{name} {count:,}"
            for name, count in zip(
                schema.event_types,
                np.bincount(dataset.events, minlength=len(schema.event_types) + 1)[1:],
                strict=False,
            )
        ),
    }
    time = {
        "from": _moment(times.min()),
        "to": _moment(times.max()),
        "days": f"{(int(times.max()) - int(times.min())) / DAY:.1f}",
        "days between a user's events": _quantiles(gaps),
        "events at the time of the one before": _share(ties.sum(), events),
    }
    repeats = {
        "repeat rate": f"{1 - num_pairs / max(events, 1):.2%} of events are on an item seen before",
        "duplicates": f"{int(duplicates.sum()):,} (same user, item and time)",
    }
    return Description(
        name=dataset.path.name,
        sections={
            "sizes": sizes,
            "lengths": {"events a user": _quantiles(lengths)},
            "popularity": _popularity(popularity),
            "time": time,
            "repeats": repeats,
            **{split: _split(dataset, split) for split in ("validation", "test")},
        },
        charts=(
            _logarithmic("events a user", lengths),
            _logarithmic("events an item", popularity[popularity > 0]),
            _over_time(times),
        ),
    )


def _moment(microseconds: Any) -> str:
    return str(np.datetime64(int(microseconds), "us").astype("datetime64[s]")) + " UTC"


def _share(part: Any, whole: int) -> str:
    return f"{int(part):,} ({int(part) / max(whole, 1):.2%})"


def _quantiles(values: NDArray) -> str:
    if not len(values):
        return "none"
    found = np.quantile(values, QUANTILES)
    names = ("least", "25 %", "median", "75 %", "90 %", "99 %", "most")
    shown = ", ".join(f"{name} {value:,.4g}" for name, value in zip(names, found, strict=True))
    return f"mean {values.mean():,.4g}; {shown}"


def _popularity(counts: NDArray[np.int64]) -> dict[str, str]:
    ordered = np.sort(counts)[::-1]
    running = np.cumsum(ordered) / max(ordered.sum(), 1)
    size = len(ordered)
    top = {
        f"top {share:.0%} of items": f"{running[max(round(share * size), 1) - 1]:.1%} of events"
        for share in CURVE
    }
    ranks = np.arange(1, size + 1)
    gini = float(((2 * ranks - size - 1) * ordered[::-1]).sum() / max(size * ordered.sum(), 1))
    return {
        **top,
        "Gini coefficient": f"{gini:.3f}",
        "items with one event": _share((counts == 1).sum(), size),
    }


def _split(dataset: Dataset, split: Any) -> dict[str, str]:
    cases = dataset.cases(split)
    lengths = cases.ends - cases.cuts
    rows = np.repeat(cases.cuts - (np.cumsum(lengths) - lengths), lengths) + np.arange(
        lengths.sum()
    )
    codes = [dataset.schema.event_types.index(name) + 1 for name in dataset.schema.target_events]
    targets = dataset.items[rows[np.isin(dataset.events[rows], codes)]]
    cold = targets > dataset.schema.num_warm_items
    return {
        "users": f"{len(cases):,}",
        "targets": f"{len(targets):,}",
        "on cold items": _share(cold.sum(), len(targets)),
        "users without history": _share((cases.cuts == cases.starts).sum(), len(cases)),
    }


def _logarithmic(title: str, values: NDArray) -> Histogram:
    """Bins of 1, 2, 3-4, 5-8, 9-16, ..."""
    edges = [1, 2]
    while edges[-1] < max(values.max(initial=1), 1):
        edges.append(edges[-1] * 2)
    bins = np.searchsorted(np.array(edges), values)
    counts = np.bincount(bins, minlength=len(edges))
    labels = ["1", "2"] + [f"{a + 1:,}-{b:,}" for a, b in itertools.pairwise(edges[1:])]
    return Histogram(title=title, labels=tuple(labels), counts=tuple(counts.tolist()))


def _over_time(times: NDArray[np.int64]) -> Histogram:
    counts, edges = np.histogram(times, BINS)
    labels = tuple(_moment(edge)[:10] for edge in edges[:-1])
    return Histogram(title="events over time", labels=labels, counts=tuple(counts.tolist()))

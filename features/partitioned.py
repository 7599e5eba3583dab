"""A log in parts to `dataset/`, in bounded memory: one part at a time, in three passes.

1. Reduce (`features.reduced`): clean a part and keep it as numbers.
2. Cut: the instants of a split by time, exact, from counts by minute; and which items train.
3. Encode: items of training first; each part's rows, cut points and item days.

The result is that of `features.build` for the same log, but for the order of users and items.
Held in memory besides one part: a few numbers a user and an item, raw user ids, the item table.

A dataset can grow: with an older one as `base`, old items keep their ids and new ones follow, and
parts whose events are unchanged are shared by hard link (`parts/`).
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features import layout
from features.appended import AppendedColumns
from features.config import FeatureConfig, GlobalTime, LastDays
from features.covisits import (
    Counted,
    count_pairs,
)
from features.growth import Base
from features.layout import CUTS, PARTS
from features.progress import PartCounts, count_part
from features.reduced import Reduced, save_reduced
from features.resume import Workspace
from features.sequences import Sequences
from features.splits import Cuts, between, cut_points, quantile_ranks, shift_cuts, windows
from features.store import write_table
from features.timeline import (
    count_days,
    timeline_codes,
)

MINUTE = 60_000_000
EVENT_TYPES = {"item_id": np.int32, "timestamp": np.int64, "event": np.uint8}


@dataclass
class Cutter:
    """Cuts a part by a split whose instants, if it has any, are known."""

    config: FeatureConfig
    instants: tuple[int, int] | None
    targets: NDArray[np.bool_]
    """By behaviour code."""

    def cut(self, sequences: Sequences) -> tuple[Sequences, Cuts]:
        """The events that stay in the dataset, and the cut points into them."""
        is_target = self.targets[sequences.events]
        cuts = cut_points(sequences, self.config.split, self.instants, is_target)
        kept = sequences.truncate(cuts["test_end"])
        return kept, shift_cuts(cuts, kept.offsets)


@dataclass
class Found:
    """What the second pass learns of the whole."""

    trained: NDArray[np.bool_]
    """By item number."""
    named: NDArray[np.bool_]
    """Whether any event that stays names the item."""
    cutoff: int = np.iinfo(np.int64).min
    num_events: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Events of training, target events of validation and test."""


def find_instants(reduced: Reduced, config: FeatureConfig) -> tuple[int, int] | None:
    """First microsecond of the validation and of the test window; None for other splits.

    The same as `splits.boundaries`: events are counted by minute, then the times of the two
    minutes that hold the ranks are looked at.
    """
    split = config.split
    if not isinstance(split, GlobalTime | LastDays):
        return None
    minutes, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    newest = np.iinfo(np.int64).min
    for _, sequences in reduced.each("counting by minute"):
        found, number = np.unique(sequences.timestamps // MINUTE, return_counts=True)
        newest = max(newest, int(sequences.timestamps.max()))
        together, places = np.unique(np.concatenate([minutes, found]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, number])).astype(np.int64)
        minutes = together
    if isinstance(split, LastDays):
        return windows(newest, split)
    before = np.cumsum(counts) - counts
    ranks = quantile_ranks(split, int(counts.sum()))
    places = [int(np.searchsorted(before, rank, side="right")) - 1 for rank in ranks]
    held: list[list[NDArray]] = [[], []]
    for _, sequences in reduced.each("placing the windows"):
        minute = sequences.timestamps // MINUTE
        for place, times in zip(places, held, strict=True):
            times.append(sequences.timestamps[minute == minutes[place]])
    found = [
        int(np.sort(np.concatenate(times))[rank - before[place]])
        for times, rank, place in zip(held, ranks, places, strict=True)
    ]
    return found[0], found[1]


def find_training(reduced: Reduced, cutter: Cutter) -> Found:
    """The second pass."""
    size = len(reduced.items.ids) + 1
    found = Found(np.zeros(size, np.bool_), np.zeros(size, np.bool_))
    for _, whole in reduced.each("finding what trains"):
        sequences, cuts = cutter.cut(whole)
        items = sequences.raw_items.to_numpy()
        is_training = between(cuts, "start", "train_end", len(sequences))
        found.trained[items[is_training]] = True
        found.named[items] = True
        if is_training.any():
            found.cutoff = max(found.cutoff, int(sequences.timestamps[is_training].max()))
        found.num_events += len(sequences)
        is_target = cutter.targets[sequences.events]
        for part, first, last in (
            ("validation", "validation_start", "validation_end"),
            ("test", "test_start", "test_end"),
        ):
            inside = between(cuts, first, last, len(sequences)) & is_target
            found.counts[part] = found.counts.get(part, 0) + int(inside.sum())
        found.counts["training"] = found.counts.get("training", 0) + int(is_training.sum())
    return found


def final_ids(found: Found, num_kept: int) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """Dense id by item number, numbers in the order of the ids, and the greatest id that trains.

    num_kept: items of the base, whose numbers are their ids already. Of the others those that
    train come first; those that no event names any more are left out.
    """
    new = np.arange(num_kept + 1, len(found.trained))
    order = np.concatenate(
        [
            np.arange(1, num_kept + 1),
            new[found.trained[new]],
            new[~found.trained[new] & found.named[new]],
        ]
    )
    ids = np.zeros(len(found.trained), np.int32)
    ids[order] = np.arange(1, len(order) + 1)
    return ids, order, int(ids[found.trained].max(initial=0))


@dataclass
class Totals:
    """What the third pass gathers."""

    parts: dict[str, list[PartCounts]] = field(
        default_factory=lambda: {"validation": [], "test": []}
    )
    user_ids: list[pa.Array] = field(default_factory=list)
    num_users: int = 0

    def counts(self, split: str) -> PartCounts:
        """The sum over the parts."""
        rows = [asdict(part) for part in self.parts[split]]
        return PartCounts(**{name: sum(row[name] for row in rows) for name in rows[0]})


def encode_parts(
    reduced: Reduced,
    cutter: Cutter,
    ids: NDArray[np.int32],
    num_warm: int,
    work: Workspace,
    base: Base | None,
) -> Totals:
    """The third pass: parts/, events.arrow, users.arrow, and item days in the scratch folder."""
    totals, row = Totals(), 0
    (work.directory / PARTS).mkdir(exist_ok=True)
    events = AppendedColumns(work.directory / layout.EVENTS, EVENT_TYPES)
    users = AppendedColumns(work.directory / layout.USERS, dict.fromkeys(CUTS, np.int64))
    with events, users:
        for part, whole in reduced.each("encoding"):
            if part in reduced.kept and base is not None:
                base.link(part, work)
            else:
                numbered = pa.array(ids[whole.raw_items.to_numpy()])
                save_reduced(work.directory / PARTS, part, whole.with_items(numbered))
            sequences, cuts = cutter.cut(whole)
            item_ids = ids[sequences.raw_items.to_numpy()]
            columns = {"timestamp": sequences.timestamps, "event": sequences.events}
            events.append({"item_id": item_ids, **columns})
            users.append({name: rows + row for name, rows in cuts.items()})
            _save_statistics(work, part, cutter, item_ids, sequences, cuts)
            is_target = cutter.targets[sequences.events]
            for split, counts in totals.parts.items():
                counts.append(count_part(split, cuts, item_ids, is_target, num_warm))
            totals.user_ids.append(sequences.users)
            row += len(sequences)
    return totals


def _save_statistics(
    work: Workspace,
    part: int,
    cutter: Cutter,
    item_ids: NDArray[np.int32],
    sequences: Sequences,
    cuts: Cuts,
) -> None:
    """What a part adds to the timelines and to the co-visits, in the scratch folder."""
    known = between(cuts, "start", "test_start", len(sequences))
    for code in timeline_codes(len(cutter.targets) - 1):
        chosen = known & (sequences.events == code) if code else known
        days = count_days(item_ids[chosen], sequences.timestamps[chosen])
        _save_counts(work.scratch / f"days-{code}-{part:05d}.arrow", days)
    if reach := cutter.config.covisit_reach:
        spans = (cuts["start"], cuts["test_start"])
        pairs = count_pairs(item_ids, sequences.timestamps, *spans, reach)
        _save_counts(work.scratch / f"pairs-{part:05d}.arrow", pairs)


def _save_counts(path: Path, counted: Counted) -> None:
    write_table(path, {"key": counted[0], "count": counted[1]})

"""The first pass over a log in parts: each part cleaned, and kept as numbers in mapped files.

    events-00003.arrow   item_id, timestamp, event (and session), grouped by user, oldest first
    users-00003.arrow    id (raw), length: the users of the part and how many events each has

Item numbers count from 1 in the order in which items were first seen; a grown dataset starts with
those of its base. After each part the journal has it, so a killed build goes on from there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from features.cleaning import drop_duplicates, keep_behaviours, may_repeat
from features.config import FeatureConfig, LastSession
from features.errors import InputError
from features.parts import files_of_part, read_part
from features.progress import progress
from features.resume import Workspace
from features.schema import SESSION_ID, Events
from features.sequences import Sequences, group_by_user
from features.spread import Spread, in_turn
from features.stage import StageManifest
from features.store import read_table, to_arrays, write_table
from features.vocabulary import number_by_appearance

CLEANED = "cleaned"
"""Folder of parts whose items are not numbered yet."""


def part_files(directory: Path, part: int) -> tuple[Path, Path]:
    """Events and users of a part."""
    return directory / f"events-{part:05d}.arrow", directory / f"users-{part:05d}.arrow"


def open_reduced(directory: Path, part: int) -> Sequences:
    """One part over its mapped files; `raw_items` are item numbers."""
    rows, users = (read_table(path) for path in part_files(directory, part))
    arrays = to_arrays(rows)
    lengths = to_arrays(users.select(["length"]))["length"]
    return Sequences(
        users.column("id").combine_chunks(),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        pa.array(arrays["item_id"]),
        arrays["timestamp"],
        arrays["event"],
        arrays.get("session", np.empty(0, np.int64)),
    )


def save_reduced(directory: Path, part: int, sequences: Sequences) -> tuple[Path, Path]:
    """Write one part; returns its files."""
    rows, users = part_files(directory, part)
    columns = {
        "item_id": sequences.raw_items,
        "timestamp": sequences.timestamps,
        "event": sequences.events,
    }
    if len(sequences.sessions):
        columns["session"] = sequences.sessions
    write_table(rows, columns)
    write_table(users, {"id": sequences.users, "length": np.diff(sequences.offsets)})
    return rows, users


@dataclass
class ItemNumbers:
    """Numbers of raw items, from 1, in the order in which they come."""

    ids: pa.Array

    def number(self, distinct: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
        """The number of each of some distinct raw ids, and those that are new: they get the next
        numbers.
        """
        known = pl.DataFrame({"id": pl.from_arrow(self.ids.cast(distinct.type))})
        known = known.with_row_index("number", offset=1)
        asked = pl.DataFrame({"id": pl.from_arrow(distinct)})
        found = asked.join(known, on="id", how="left", maintain_order="left")["number"]
        new = found.is_null().to_numpy()
        numbers = found.fill_null(0).to_numpy().astype(np.int32)
        numbers[new] = len(self.ids) + 1 + np.arange(new.sum(), dtype=np.int32)
        added = distinct.filter(pa.array(new))
        self.add(added)
        return numbers, added

    def add(self, raw_ids: pa.Array) -> None:
        """Number more items."""
        self.ids = pa.concat_arrays([self.ids.cast(raw_ids.type), raw_ids])


@dataclass
class Reduced:
    """What the first pass leaves."""

    directory: Path
    event_types: tuple[str, ...]
    items: ItemNumbers
    kept: Mapping[int, Path] = field(default_factory=dict)
    """Parts that are taken over from an older dataset, and the folder that they are in."""
    parts: list[int] = field(default_factory=list)
    """Parts with events, ascending."""
    rows_read: int = 0

    def open(self, part: int) -> Sequences:
        """One part; its `raw_items` are item numbers."""
        return open_reduced(self.kept.get(part, self.directory), part)

    def each(self, title: str) -> Iterator[tuple[int, Sequences]]:
        """All parts with events, with a progress bar."""
        with progress(title, len(self.parts)) as bar:
            for part in self.parts:
                sequences = self.open(part)
                yield part, sequences
                bar.rows(len(sequences))
                bar.advance()


@dataclass(frozen=True, slots=True)
class CleaningTask:
    """A part to clean, wherever that is done."""

    events: Path
    names: tuple[str, ...]
    """Of the part's files."""
    part: int
    config: FeatureConfig
    event_types: tuple[str, ...]
    directory: Path

    @property
    def key(self) -> str:
        """In the journal."""
        return f"part {self.part}"

    @property
    def distinct_file(self) -> Path:
        """Raw ids of the part's items; the rows hold their places."""
        return self.directory / f"distinct-{self.part:05d}.arrow"


def clean_part(task: CleaningTask) -> dict[str, int]:
    """Clean a part and keep it with its items by their places in the file of distinct ids.

    Returns how many rows it had and how many events are left.
    """
    frame = _read(task.events, list(task.names), task.config)
    kept = keep_behaviours(frame.lazy(), task.config.events).collect()
    if task.config.duplicates != "exact" or may_repeat(kept.select(Events.column_names())):
        kept = drop_duplicates(kept.lazy(), task.config.duplicates).collect()
    if task.config.min_user_events > 1:
        kept = kept.filter(pl.len().over("user_id") >= task.config.min_user_events)
    sequences = group_by_user(kept, task.event_types)
    places, distinct = number_by_appearance(sequences.raw_items)
    write_table(task.distinct_file, {"id": distinct})
    save_reduced(task.directory, task.part, replace(sequences, raw_items=pa.array(places)))
    return {"rows": len(frame), "events": len(sequences)}


def reduce_parts(
    events: Path,
    manifest: StageManifest,
    config: FeatureConfig,
    reduced: Reduced,
    work: Workspace,
    spread: Spread = in_turn,
) -> None:
    """Fill `reduced`, whose items and kept parts are those of the base, if there is one.

    spread: where parts are cleaned; they are numbered here, in their order.
    """
    num_parts = int(manifest.config["parts"])
    tasks = {
        part: CleaningTask(
            events, tuple(names), part, config, reduced.event_types, reduced.directory / CLEANED
        )
        for part in range(num_parts)
        if part not in reduced.kept and (names := files_of_part(manifest.files, part))
    }
    waiting = [task for task in tasks.values() if task.key not in work.done]
    (reduced.directory / CLEANED).mkdir(exist_ok=True)
    cleaned = spread(clean_part, waiting)
    with progress("cleaning", num_parts) as bar:
        for part in range(num_parts):
            note = {"rows": 0, "events": 0}
            if part in reduced.kept:
                count = len(reduced.open(part))
                note = {"rows": count, "events": count}
            elif part in tasks:
                note = _number_part(tasks[part], cleaned, reduced, work)
            reduced.rows_read += note["rows"]
            if note["events"]:
                reduced.parts.append(part)
            bar.rows(note["rows"])
            bar.advance()
    if config.min_item_events > 1:
        _keep_core(reduced, config)
    if not reduced.parts:
        raise InputError(
            f"{events}: of {reduced.rows_read} events none is left after cleaning (events="
            f"{list(config.events) or 'all'}, min_user_events={config.min_user_events}, "
            f"min_item_events={config.min_item_events}): ask for less"
        )


def _number_part(
    task: CleaningTask, cleaned: Iterator[dict[str, int]], reduced: Reduced, work: Workspace
) -> dict[str, int]:
    """Give the items of the next part their numbers; returns its note."""
    added = reduced.directory / f"items-{task.part:05d}.arrow"
    if task.key in work.done:
        reduced.items.add(read_table(added).column("id").combine_chunks())
        return work.done[task.key]
    note = next(cleaned)
    distinct = read_table(task.distinct_file).column("id").combine_chunks()
    numbers, new = reduced.items.number(distinct)
    whole = open_reduced(task.directory, task.part)
    numbered = whole.with_items(pa.array(numbers[whole.raw_items.to_numpy()]))
    files = save_reduced(reduced.directory, task.part, numbered)
    write_table(added, {"id": new})
    work.finish(task.key, note, added, *files)
    for path in (task.distinct_file, *part_files(task.directory, task.part)):
        path.unlink()
    return note


def _read(events: Path, names: list[str], config: FeatureConfig) -> pl.DataFrame:
    wanted = Events.column_names()
    if isinstance(config.split, LastSession):
        wanted.append(SESSION_ID)
    return read_part(events, names, wanted)


def _keep_core(reduced: Reduced, config: FeatureConfig) -> None:
    """Drop users and items with too few events, to the fixed point (`cleaning.k_core_round`)."""
    while True:
        counts = np.zeros(len(reduced.items.ids) + 1, np.int64)
        for _, sequences in reduced.each("counting"):
            counts += np.bincount(sequences.raw_items.to_numpy(), minlength=len(counts))
        dropped = 0
        for part, sequences in reduced.each("dropping the rare"):
            lengths = np.diff(sequences.offsets)
            frequent = counts[sequences.raw_items.to_numpy()] >= config.min_item_events
            kept = frequent & np.repeat(lengths >= config.min_user_events, lengths)
            if not kept.all():
                dropped += int((~kept).sum())
                save_reduced(reduced.directory, part, _filter(sequences, kept))
        reduced.parts = [part for part in reduced.parts if len(reduced.open(part))]
        if not dropped:
            return


def _filter(sequences: Sequences, kept: NDArray[np.bool_]) -> Sequences:
    """The rows that are kept; users without any go."""
    starts = sequences.offsets[:-1]
    lengths = np.add.reduceat(kept, starts, dtype=np.int64) if len(starts) else starts
    rows = np.flatnonzero(kept)
    offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])])
    taken = sequences.take(rows, offsets)
    copied = {"timestamps": taken.timestamps.copy(), "events": taken.events.copy()}
    return replace(taken, users=sequences.users.filter(pa.array(lengths > 0)), **copied)

"""events/ to dataset/, the only file of this package that collects or writes.

1. read the log, check it, drop unwanted rows (cleaning)
2. group it by user (sequences) and cut every user (splits)
3. number the items, training ones first (vocabulary), and encode what is declared of them (items)
4. write the files of `features.layout`
5. read them back and prove that training knows nothing of the future (leaks)
"""

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from features import layout
from features.build_parts import build_from_parts, raw_type
from features.cleaning import (
    drop_duplicates,
    k_core_round,
    keep_behaviours,
    keep_some_users,
    may_repeat,
)
from features.config import FeatureConfig, HeldOutUsers, LastSession, SessionTime
from features.contract import coerce_ranges, fit_rules
from features.covisits import count_pairs, refuse_too_many_items, write_covisits
from features.errors import InputError
from features.held_out import columns_of_users
from features.items import ItemSource, ItemTable, encode_items, known_items, with_other_items
from features.layout import DatasetSchema, Kind
from features.leaks import prove_no_leak
from features.progress import count_part, describe, steps
from features.schema import SESSION_ID, Events, check_events, check_items, check_sessions
from features.sequences import Sequences, group_by_user, sessions_as_users
from features.splits import MINUTE, Cuts, between, shift_cuts, split_sequences
from features.spread import Spread, in_turn
from features.stage import StageManifest, read_manifest, verify_files, write_stage
from features.store import write_table
from features.timeline import write_timelines
from features.vocabulary import number_items

EVENTS_FILE, ITEMS_FILE, USERS_FILE = "events.parquet", "items.parquet", "users.parquet"
"""What a stage of kind `events` holds; items and users only where the source describes them."""
MAX_BEHAVIOURS = 255
"""Behaviour codes are one byte, and 0 is padding."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A dataset in memory, ready to be written."""

    schema: DatasetSchema
    sequences: Sequences
    cuts: Cuts
    item_ids: NDArray[np.int32]
    """(E,) dense."""
    is_target: NDArray[np.bool_]
    """(E,) whether the behaviour is one to predict."""
    catalogue: pl.DataFrame
    table: ItemTable


def build_dataset(
    events: Path,
    config: FeatureConfig,
    out: Path,
    base: Path | None = None,
    spread: Spread | None = None,
) -> None:
    """Build the dataset `out` from the directory `events`; prints one line of counts to stderr.

    The same input and config give the same bytes. Raises InputError for an unusable log or
    config, or when `out` exists. `out` appears whole or not at all. A log in parts is built one
    part at a time, and may continue an older dataset, its `base`.
    """
    started = time.perf_counter()
    parent = read_manifest(events, "events")
    if parent.config.get("parts"):

        def items_of(raw_ids: pa.Array) -> ItemSource:
            ids = pl.Series("item_id", pl.from_arrow(raw_ids))
            return read_items(events, parent, config, ids)

        build_from_parts(events, parent, config, out, base, items_of, spread or in_turn)
        return
    if base is not None or spread is not None:
        raise InputError(
            f"{events} is not in parts, and only a log in parts grows or is spread: see docs"
        )
    described = {"features": asdict(config)}
    with (
        write_stage(out, kind="dataset", config=described, parent=parent.sha256) as directory,
        steps("dataset") as say,
    ):
        say("reading the log")
        verify_files(events, parent)
        log, rows_read = read_log(events / EVENTS_FILE, config)
        say("encoding")
        items = read_items(events, parent, config, log["item_id"])
        encoded = encode(log, items, config, events / USERS_FILE)
        say("writing")
        write(directory, encoded)
        say("proving that nothing leaks")
        prove_no_leak(directory)
    line = summarise(encoded, rows_read)
    print(f"{out}: {line}; {time.perf_counter() - started:.1f} s", file=sys.stderr)


def read_log(path: Path, config: FeatureConfig) -> tuple[pl.DataFrame, int]:
    """The cleaned events, in the log's order, and the number of rows before cleaning."""
    scanned = pl.scan_parquet(path)
    wanted = Events.column_names()
    if isinstance(config.split, LastSession | SessionTime):
        wanted.append(SESSION_ID)
    found = scanned.collect_schema()
    log = scanned.select(name for name in wanted if name in found).collect()
    check_events(log, str(path))
    if SESSION_ID in log.columns:
        check_sessions(log, str(path))
    kept = keep_behaviours(log.lazy(), config.events).collect()
    if config.users:
        kept = keep_some_users(kept, config.users)
    if config.duplicates != "exact" or may_repeat(kept.select(Events.column_names())):
        kept = drop_duplicates(kept.lazy(), config.duplicates).collect()
    least = {name: getattr(config, name) for name in ("min_user_events", "min_item_events")}
    before = len(kept) + 1
    while max(least.values()) > 1 and len(kept) < before:  # to the fixed point: the k-core
        before, kept = len(kept), k_core_round(kept.lazy(), **least).collect()
    if kept.is_empty():
        raise InputError(
            f"{path}: of {len(log)} events none is left after cleaning (events="
            f"{list(config.events) or 'all'}, {least}; the log's behaviours are "
            f"{sorted(log['event'].unique())[:5]}): ask for less"
        )
    return kept, len(log)


def read_items(
    events: Path, parent: StageManifest, config: FeatureConfig, item_ids: pl.Series
) -> ItemSource:
    """The source's item table; where it has none, the bare item ids of the log."""
    declared: dict[str, Kind] = parent.config.get("item_columns", {})
    if unknown := sorted(set(config.item_kinds) - set(declared)):
        raise InputError(
            f"item_kinds names {unknown}, {events} declares {sorted(declared)}: correct the names"
        )
    declared = {name: config.item_kinds.get(name, kind) for name, kind in declared.items()}
    names = tuple(declared) if config.item_columns == "all" else config.item_columns
    if unknown := [name for name in names if name not in declared]:
        raise InputError(
            f"item_columns names {unknown}, {events} declares {sorted(declared)}: "
            "declare them where the data is loaded, or leave them out"
        )
    path = events / ITEMS_FILE
    if path.is_file():
        items = check_items(pl.read_parquet(path), str(path), declared)
        kinds: dict[str, Kind] = {name: declared[name] for name in names}
        return ItemSource(items, kinds, parent.config.get("title_column", ""))
    if declared or config.catalogue == "items":
        raise InputError(
            f"{path} is missing, and item_columns={sorted(declared)} with catalogue="
            f"{config.catalogue!r} need it: load the items with the events"
        )
    return ItemSource(item_ids.unique(maintain_order=True).to_frame())


def behaviours(log: pl.DataFrame, config: FeatureConfig) -> tuple[str, ...]:
    """Behaviours in the order of their codes; raises InputError for names the log has not."""
    found = sorted(log["event"].unique())
    if unknown := sorted({*config.events, *config.target_events} - set(found)):
        raise InputError(
            f"the config names behaviours {unknown}, the log has {found[:10]}: "
            "correct events or target_events"
        )
    if len(found) > MAX_BEHAVIOURS:
        raise InputError(
            f"the log has {len(found)} behaviours (first {found[:3]}), at most {MAX_BEHAVIOURS} "
            "can be told apart: choose some with events"
        )
    return config.events or tuple(found)


def encode(log: pl.DataFrame, source: ItemSource, config: FeatureConfig, users: Path) -> Encoded:
    """Split, number and encode a cleaned log. users: the table that a split may ask."""
    event_types = behaviours(log, config)
    target_events = config.target_events or event_types
    targets = np.isin(["", *event_types], target_events)  # by code
    sequences = group_by_user(log, event_types)
    of_users = {}
    if isinstance(config.split, HeldOutUsers) and config.split.user_columns:
        of_users = columns_of_users(users, config.split.user_columns, sequences.users)
    if isinstance(config.split, SessionTime):
        sequences = sessions_as_users(sequences, round(config.split.gap_minutes * MINUTE))
    cuts, split = split_sequences(sequences, config.split, targets[sequences.events], of_users)
    sequences = sequences.truncate(cuts["test_end"])
    cuts = shift_cuts(cuts, sequences.offsets)
    is_training = between(cuts, "start", "train_end", len(sequences))
    item_ids, raw_ids, num_warm = number_items(sequences.raw_items, is_training)
    if config.catalogue == "items":
        raw_ids = with_other_items(raw_ids, source.items)
    catalogue = known_items(raw_ids, source.items)
    rules = fit_rules(config.rules, catalogue, num_warm, source.kinds, {})
    table = encode_items(coerce_ranges(catalogue, rules), num_warm, source.kinds, config)
    schema = DatasetSchema(
        num_users=len(sequences.users),
        num_items=len(catalogue),
        num_warm_items=num_warm,
        num_events=len(sequences),
        event_types=event_types,
        target_events=target_events,
        cold_targets=config.cold_targets,
        item_columns=table.columns,
        title_column=source.title_column,
        raw_item_type=raw_type(raw_ids),
        raw_user_type=raw_type(sequences.users),
        cutoff=int(sequences.timestamps[is_training].max()),
        split=split,
        tokenizer=table.tokenizer_origin,
        covisit_reach=config.covisit_reach,
        rules=rules,
    )
    is_target = targets[sequences.events]
    return Encoded(schema, sequences, cuts, item_ids, is_target, catalogue, table)


def write(directory: Path, encoded: Encoded) -> None:
    """Write every file of `features.layout` but the manifest."""
    sequences, table = encoded.sequences, encoded.table
    values = {"timestamp": sequences.timestamps, "event": sequences.events}
    write_table(directory / layout.EVENTS, {"item_id": encoded.item_ids, **values})
    write_table(directory / layout.USERS, dict(encoded.cuts))
    write_table(directory / layout.ITEMS, table.arrays)
    encoded.catalogue.write_parquet(directory / layout.CATALOGUE)
    vocabularies = {
        "item": encoded.catalogue["item_id"].to_arrow(),
        "user": sequences.users,
        **{name: known.to_arrow() for name, known in table.vocabularies.items()},
    }
    for name, ids in vocabularies.items():
        write_table(directory / layout.vocabulary_file(name), {"id": ids})
    for tokenizer in table.tokenizers:
        tokenizer.save(str(directory / layout.TOKENIZER))
    # Ranking features of a case may count what others did before its time, but no test event.
    known = between(encoded.cuts, "start", "test_start", len(sequences))
    write_timelines(
        directory,
        encoded.item_ids[known],
        sequences.timestamps[known],
        encoded.schema.num_items,
        sequences.events[known],
        len(encoded.schema.event_types),
    )
    if reach := encoded.schema.covisit_reach:
        refuse_too_many_items(encoded.schema.num_items)
        spans = (encoded.cuts["start"], encoded.cuts["test_start"])
        pairs = count_pairs(encoded.item_ids, sequences.timestamps, *spans, reach)
        write_covisits(directory, pairs)
    encoded.schema.write(directory)


def summarise(encoded: Encoded, rows_read: int) -> str:
    """One line of counts."""
    cuts, schema = encoded.cuts, encoded.schema
    parts = {
        split: count_part(split, cuts, encoded.item_ids, encoded.is_target, schema.num_warm_items)
        for split in ("validation", "test")
    }
    trained = int((cuts["train_end"] - cuts["start"]).sum())
    return describe(schema, rows_read, trained, parts)

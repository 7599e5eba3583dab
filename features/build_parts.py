"""Builds a `dataset/` of a log in parts: the passes of `features.partitioned`, then the items."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from features import layout
from features.config import FeatureConfig, SessionTime
from features.contract import coerce_ranges, fit_rules
from features.errors import InputError
from features.growth import EVENT_FILES, Base, event_files
from features.item_statistics import merge_days, merge_pairs
from features.items import ItemSource, encode_items, known_items, with_other_items
from features.layout import DatasetSchema
from features.leaks import prove_no_leak
from features.partitioned import (
    Cutter,
    encode_parts,
    final_ids,
    find_instants,
    find_training,
)
from features.progress import describe, peak_memory, steps
from features.reduced import ItemNumbers, Reduced, reduce_parts
from features.resume import resumable_stage
from features.splits import describe_split, refuse_empty
from features.spread import Spread, in_turn
from features.stage import StageManifest, verify_files
from features.store import write_table
from features.timeline import timeline_codes

ReadItems = Callable[[pa.Array], ItemSource]
"""The source's items, given the raw ids of the log."""


def raw_type(ids: pa.Array) -> Literal["int", "str"]:
    """How `DatasetSchema` names the type of raw ids."""
    return "int" if pa.types.is_integer(ids.type) else "str"


def build_from_parts(  # noqa: PLR0915 - the whole build in its order, each line one step
    events: Path,
    parent: StageManifest,
    config: FeatureConfig,
    out: Path,
    base_path: Path | None,
    read_items: ReadItems,
    spread: Spread = in_turn,
) -> None:
    """Write the dataset `out` of an `events/` in parts; prints one line of counts to stderr.

    base_path: an older dataset that is continued. spread: where parts are cleaned. Raises
    InputError as `build_dataset` does.
    """
    started = time.perf_counter()
    if isinstance(config.split, SessionTime) or config.users:
        raise InputError(
            f"{events} is in parts, where a session-time split and features.users (a part of the "
            "users) do not work yet: load the log with parts = 0"
        )
    base = Base.open(base_path, config) if base_path is not None else None
    described = {"features": asdict(config), EVENT_FILES: event_files(parent)}
    plan = described | {"events": parent.sha256, "base": base.manifest.sha256 if base else ""}
    with resumable_stage(
        out, kind="dataset", config=described, parent=parent.sha256, plan=plan
    ) as work:
        verify_files(events, parent)
        event_types = behaviours_of(parent, config, base)
        reduced = Reduced(
            work.scratch,
            event_types,
            ItemNumbers(base.item_ids() if base else pa.array([], pa.int64())),
            kept=base.unchanged(parent) if base else {},
        )
        reduce_parts(events, parent, config, reduced, work, spread)
        target_events = config.target_events or event_types
        targets = np.isin(["", *event_types], target_events)  # by code
        cutter = Cutter(config, find_instants(reduced, config), targets)
        found = find_training(reduced, cutter)
        num_kept = base.schema.num_items if base else 0
        ids, order, num_warm = final_ids(found, num_kept)
        totals = encode_parts(reduced, cutter, ids, num_warm, work, base)
        num_users = sum(len(users) for users in totals.user_ids)
        refuse_empty(found.counts, found.num_events, num_users, config.split.name)
        with steps("dataset") as say:
            say("encoding items")
            raw_ids = reduced.items.ids.take(pa.array(order - 1))
            source = read_items(raw_ids)
            if config.catalogue == "items":
                raw_ids = with_other_items(raw_ids, source.items)
            catalogue = known_items(raw_ids, source.items)
            kept = base.schema.rules if base else {}
            rules = fit_rules(config.rules, catalogue, num_warm, source.kinds, kept)
            coerced = coerce_ranges(catalogue, rules)
            table = encode_items(coerced, num_warm, source.kinds, config, base)
            for code in timeline_codes(len(event_types)):
                merge_days(work, len(catalogue), code)
            if config.covisit_reach:
                merge_pairs(work, len(catalogue))
            say("writing")
            write_table(work.directory / layout.ITEMS, table.arrays)
            catalogue.write_parquet(work.directory / layout.CATALOGUE)
            user_ids = pa.concat_arrays(totals.user_ids)
            vocabularies = {
                "item": catalogue["item_id"].to_arrow(),
                "user": user_ids,
                **{name: known.to_arrow() for name, known in table.vocabularies.items()},
            }
            for name, known in vocabularies.items():
                write_table(work.directory / layout.vocabulary_file(name), {"id": known})
            for tokenizer in table.tokenizers:
                tokenizer.save(str(work.directory / layout.TOKENIZER))
            schema = DatasetSchema(
                num_users=num_users,
                num_items=len(catalogue),
                num_warm_items=num_warm,
                num_events=found.num_events,
                event_types=event_types,
                target_events=target_events,
                cold_targets=config.cold_targets,
                item_columns=table.columns,
                title_column=source.title_column,
                raw_item_type=raw_type(raw_ids),
                raw_user_type=raw_type(user_ids),
                cutoff=found.cutoff,
                split=describe_split(config.split, cutter.instants),
                tokenizer=table.tokenizer_origin,
                covisit_reach=config.covisit_reach,
                rules=rules,
                grown=base is not None,
                num_untrained_items=num_warm - int(found.trained.sum()),
            )
            schema.write(work.directory)
            say("proving that nothing leaks")
            prove_no_leak(work.directory)
    parts = {split: totals.counts(split) for split in totals.parts}
    line = describe(schema, reduced.rows_read, found.counts["training"], parts)
    seconds = time.perf_counter() - started
    shared = f", {len(reduced.kept)} parts shared with {base_path}" if base else ""
    print(
        f"{out}: {line}{shared}; {seconds:.1f} s, {reduced.rows_read / seconds:,.0f} rows/s, "
        f"peak memory {peak_memory():,.0f} MiB",
        file=sys.stderr,
    )


def behaviours_of(
    events: StageManifest, config: FeatureConfig, base: Base | None
) -> tuple[str, ...]:
    """The behaviours in the order of their codes: those of the base, then new ones by name."""
    found = list(events.config["behaviours"])
    if unknown := sorted({*config.events, *config.target_events} - set(found)):
        raise InputError(
            f"the config names behaviours {unknown}, the log has {found[:10]}: "
            "correct events or target_events"
        )
    first = base.schema.event_types if base else ()
    return (*first, *(name for name in config.events or found if name not in first))

"""Each proof is seen to fail: a fault is planted in a finished dataset, or in the build."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from features import build as build_module
from features.config import LeaveOneOut
from features.covisits import count_pairs, write_covisits
from features.items import encode_items
from features.layout import DatasetSchema
from features.leaks import LeakError, prove_history_before_target, prove_no_leak
from features.splits import split_at
from features.store import Dataset, read_table, to_arrays, write_table
from features.text import fit_tokenizer
from features.timeline import write_timelines

Random = Callable[..., pl.DataFrame]
Plant = Callable[[Path], None]


def change(file: str, column: str, edit: Callable[[np.ndarray], object]) -> Plant:
    """Edit one array of an Arrow file in place."""

    def plant(directory: Path) -> None:
        arrays = {n: np.array(a) for n, a in to_arrays(read_table(directory / file)).items()}
        edit(arrays[column])
        write_table(directory / file, arrays)

    return plant


def change_schema(**fields: Any) -> Plant:
    def plant(directory: Path) -> None:
        path = directory / "schema.json"
        content = json.loads(path.read_text())
        for name, value in fields.items():
            if isinstance(value, dict):
                content[name] |= {k: content[name][k] + v for k, v in value.items()}
            else:
                content[name] += value
        path.write_text(json.dumps(content))

    return plant


def held_out_tokenizer(directory: Path) -> None:
    titles = pl.read_parquet(directory / "catalogue.parquet")["title"].drop_nulls().to_list()
    fit_tokenizer([*titles, *["velvet"] * 5], 4_096).save(str(directory / "tokenizer.json"))


def held_out_value(directory: Path) -> None:
    path = directory / "vocabulary-tags.arrow"
    known = read_table(path).column("id").to_pylist()
    write_table(path, {"id": pa.array([*known, "of the future"])})


def timeline_of_everything(directory: Path) -> None:
    events = to_arrays(read_table(directory / "events.arrow"))
    num_items = DatasetSchema.read(directory).num_items
    write_timelines(directory, events["item_id"], events["timestamp"], num_items)


def buys_of_the_future(directory: Path) -> None:
    events = to_arrays(read_table(directory / "events.arrow"))
    schema = DatasetSchema.read(directory)
    kinds, num_kinds = events["event"], len(schema.event_types)
    everything = directory / "everything"
    everything.mkdir()
    columns = (events["item_id"], events["timestamp"], schema.num_items)
    write_timelines(everything, *columns, kinds, num_kinds)
    (everything / "item-timeline-1.arrow").replace(directory / "item-timeline-1.arrow")


def covisits_of_everything(directory: Path) -> None:
    events = to_arrays(read_table(directory / "events.arrow"))
    users = to_arrays(read_table(directory / "users.arrow"))
    spans = (users["start"], users["test_end"])
    write_covisits(directory, count_pairs(events["item_id"], events["timestamp"], *spans, 2))


def first_case(directory: Path, split: str) -> int:
    """A user row with a case of `split` and two training events or more."""
    users = to_arrays(read_table(directory / "users.arrow"))
    cases = users[f"{split}_end"] > users[f"{split}_start"]
    return int(np.flatnonzero(cases & (users["train_end"] - users["start"] > 1))[0])


def train_on_the_test_target(directory: Path) -> None:
    row = first_case(directory, "test")
    users = to_arrays(read_table(directory / "users.arrow"))
    ends = {"train_end": users["test_end"], "validation_start": users["test_start"]}
    for name in ("train_end", "validation_start"):
        value = int(ends[name][row])
        change("users.arrow", name, lambda a, v=value: a.__setitem__(row, v))(directory)


def date_a_training_event_after_the_target(directory: Path) -> None:
    users = to_arrays(read_table(directory / "users.arrow"))
    event = int(users["train_end"][first_case(directory, "test")]) - 1
    change("events.arrow", "timestamp", lambda a: a.__setitem__(event, a.max() + 1))(directory)


BY_TIME = {}
BY_USER = {"split": LeaveOneOut()}
FAULTS: dict[str, tuple[dict, Plant, str]] = {
    "trains on the target": (BY_USER, train_on_the_test_target, "cut points of .* users lie bef"),
    "target is older than history": (
        BY_USER,
        date_a_training_event_after_the_target,
        "1 events are older than their user's event before",
    ),
    "cutoff": (BY_USER, change_schema(cutoff=-1), "the newest training event is at"),
    "window begins early": (
        BY_TIME,
        change_schema(split={"validation_from": -(10**10)}),
        "an event of the validation window, from .* is used before it",
    ),
    "test begins early": (
        BY_TIME,
        change_schema(split={"test_from": -(10**10)}),
        "a validation target lies in the test window",
    ),
    "one warm item more": (
        BY_TIME,
        change_schema(num_warm_items=1),
        r"1 items are on the wrong side of num_warm_items=\d+",
    ),
    "cold item in training": (
        BY_TIME,
        change("events.arrow", "item_id", lambda a: a.__setitem__(0, a.max())),
        "items are on the wrong side",
    ),
    "timeline of the future": (
        BY_USER,
        timeline_of_everything,
        r"the timeline of \d+ items counts other events than those before the test targets",
    ),
    "timeline of one behaviour of the future": (
        BY_USER,
        buys_of_the_future,
        r"the timeline of \d+ items counts other events than those before the test targets",
    ),
    "co-visits of the future": (
        BY_USER | {"covisit_reach": 2},
        covisits_of_everything,
        r"the co-visits of \d+ items count other events than those before the test targets",
    ),
    "value of the future": (
        BY_TIME,
        held_out_value,
        r"1 values of tags are known and occur in no training item, first \['of the future'\]",
    ),
    "tokens of the future": (
        BY_TIME,
        held_out_tokenizer,
        r"\d+ tokens occur in the text of no training item",
    ),
}


@pytest.fixture(params=FAULTS)
def planted(
    request: pytest.FixtureRequest,
    build_events: Callable[..., Path],
    build: Callable[..., Dataset],
    random_log: Random,
    random_items: Random,
) -> tuple[Path, str]:
    config, plant, message = FAULTS[request.param]
    path = build(build_events(random_log(3), random_items(3)), **config).path
    prove_no_leak(path)
    plant(path)
    return path, message


def test_a_planted_fault_is_caught(planted: tuple[Path, str]) -> None:
    path, message = planted
    with pytest.raises(LeakError, match=message):
        prove_no_leak(path)


def test_training_past_the_target_is_caught_though_cut_points_ascend(
    build_events: Callable[..., Path], build: Callable[..., Dataset], random_log: Random
) -> None:
    """A user's events one place too early: in order, but an event of training is too new."""
    path = build(build_events(random_log(3))).path
    row = first_case(path, "validation")
    for name in ("train_end", "validation_start"):
        change("users.arrow", name, lambda a: a.__setitem__(row, a[row] + 1))(path)
    with pytest.raises(LeakError, match=r"newest training event|is used before it"):
        prove_no_leak(path)


def test_a_user_who_trains_on_later_events_than_the_target_is_named(
    build_events: Callable[..., Path], build: Callable[..., Dataset], random_log: Random
) -> None:
    """Also where rows are not in order of time, which the first proof would have refused."""
    dataset = build(build_events(random_log(3)), split=LeaveOneOut())
    users, row = dict(dataset.cuts), first_case(dataset.path, "validation")
    times = dataset.timestamps.copy()
    times[users["train_end"][row] - 1] = times.max() + 1
    schema = replace(dataset.schema, cutoff=int(times.max()))
    with pytest.raises(
        LeakError,
        match=f"1 users train on events after their first validation target, first user row {row}",
    ):
        prove_history_before_target({"timestamp": times}, users, schema)


@pytest.fixture
def events(build_events: Callable[..., Path], random_log: Random, random_items: Random) -> Path:
    return build_events(random_log(3), random_items(3))


def off_by_one(offsets: Any, timestamps: Any, first: int, second: int) -> Any:
    return split_at(offsets, timestamps, first + 1, second)


def fitted_on_everything(catalogue: pl.DataFrame, num_warm: int, *rest: Any) -> Any:
    return encode_items(catalogue, len(catalogue), *rest)


@pytest.mark.parametrize(
    ("where", "fault", "message"),
    [
        ("features.splits.split_at", off_by_one, "event of the validation window"),
        ("features.build.encode_items", fitted_on_everything, "training item"),
    ],
)
def test_a_fault_in_the_code_stops_the_build_and_leaves_nothing(
    where: str,
    fault: Callable,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    events: Path,
    build: Callable[..., Dataset],
) -> None:
    monkeypatch.setattr(where, fault)
    with pytest.raises(LeakError, match=message):
        build(events)
    left = {path.name for path in events.parent.iterdir()}
    assert left == {"events"}  # neither a dataset nor a part of one


def test_every_build_ends_with_the_proof(
    monkeypatch: pytest.MonkeyPatch,
    build_events: Callable[..., Path],
    build: Callable[..., Dataset],
    random_log: Random,
) -> None:
    seen: list[set[str]] = []
    monkeypatch.setattr(
        build_module, "prove_no_leak", lambda path: seen.append({f.name for f in path.iterdir()})
    )
    dataset = build(build_events(random_log(0)))
    assert seen == [set(dataset.manifest.files)]  # all files were there, and nothing came after
    assert not [name for name in seen[0] if re.search("partial|tmp", name)]


def test_a_bucket_edge_that_no_training_item_has_is_caught(
    events: Path, build: Callable[..., Dataset]
) -> None:
    dataset = build(events, buckets=4)
    columns = tuple(
        replace(c, edges=(*c.edges, 1e6)) if c.edges else c for c in dataset.schema.item_columns
    )
    replace(dataset.schema, item_columns=columns).write(dataset.path)
    with pytest.raises(LeakError, match=r"1 values of price\.bucket .* first \[1000000\.0\]"):
        prove_no_leak(dataset.path)

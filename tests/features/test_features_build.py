"""A dataset, decoded back to raw ids, equals lists made in a loop over the log."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.config import GlobalTime, LastSession, LeaveOneOut
from features.errors import InputError
from features.stage import read_manifest
from features.store import Dataset

Event = tuple[int, str]
Build = Callable[..., Dataset]
BuildEvents = Callable[..., Path]
Random = Callable[..., pl.DataFrame]


def decoded(dataset: Dataset, rows: slice) -> list[Event]:
    """Raw item id and behaviour of some rows."""
    ids = dataset.vocabulary("item").to_pylist()
    names = dataset.schema.event_types
    pairs = zip(dataset.items[rows].tolist(), dataset.events[rows].tolist(), strict=True)
    return [(ids[item - 1], names[event - 1]) for item, event in pairs]


def histories_of(log: pl.DataFrame) -> dict[str, list[tuple]]:
    histories: dict[str, list[tuple]] = {}
    for user, item, time, event in log.rows():
        histories.setdefault(user, []).append((item, event, time))
    return histories


@pytest.mark.parametrize("seed", range(2))
def test_leave_one_out_of_buys_equals_a_loop_over_the_log(
    seed: int, build_events: BuildEvents, build: Build, random_log: Random
) -> None:
    log = random_log(seed)
    dataset = build(
        build_events(log), split=LeaveOneOut(), target_events=("buy",), duplicates="keep"
    )
    users = dataset.vocabulary("user").to_pylist()
    cases = dataset.cases("test")
    found = {}
    for case, user in enumerate(cases.users):
        history = decoded(dataset, slice(cases.starts[case], cases.cuts[case]))
        found[users[user]] = (history, decoded(dataset, slice(cases.cuts[case], cases.ends[case])))
    expected = {}
    for user, events in histories_of(log).items():
        buys = [i for i, (_, event, _) in enumerate(events) if event == "buy"]
        if len(buys) >= 2 and buys[-2] > 0:
            pairs = [(item, event) for item, event, _ in events]
            expected[user] = (pairs[: buys[-1]], [pairs[buys[-1]]])
    assert found == expected
    # What a user did after the test target is not in the dataset at all.
    np.testing.assert_array_equal(dataset.cuts["test_end"][:-1], dataset.cuts["start"][1:])
    assert dataset.cuts["test_end"][-1] == len(dataset.items) < len(log)
    assert users == list(histories_of(log))


def test_the_default_is_a_split_by_time_with_cold_items_and_users(
    build_events: BuildEvents, build: Build, random_log: Random, random_items: Random
) -> None:
    log = random_log(3)
    dataset = build(build_events(log, random_items(3)), duplicates="keep")
    schema = dataset.schema
    test_from = np.datetime64(schema.split["test_from"], "us")
    ids = dataset.vocabulary("item").to_pylist()
    trained = log.filter(pl.col("timestamp") < schema.split["validation_from"])
    assert set(ids[: schema.num_warm_items]) == set(trained["item_id"])
    assert set(ids) == set(log["item_id"])
    assert schema.num_warm_items < schema.num_items
    assert trained["timestamp"].max() == np.datetime64(schema.cutoff, "us")
    cases = dataset.cases("test")
    tested = log.filter(pl.col("timestamp") >= test_from)
    assert (cases.ends - cases.cuts).sum() == len(tested)
    before = set(log.filter(pl.col("timestamp") < test_from)["user_id"])
    cold = [dataset.vocabulary("user")[u].as_py() for u in cases.users[cases.starts == cases.cuts]]
    assert set(cold) == set(tested["user_id"]) - before != set()


def test_the_schema_and_the_catalogue_describe_the_dataset(
    build_events: BuildEvents, build: Build, random_log: Random, random_items: Random
) -> None:
    log, items = random_log(1), random_items(1)
    dataset = build(build_events(log, items), catalogue="items", events=("view", "cart", "buy"))
    schema = dataset.schema
    assert schema.event_types == schema.target_events == ("view", "cart", "buy")
    assert (schema.raw_item_type, schema.raw_user_type) == ("int", "str")
    assert schema.title_column == "title"
    assert schema.num_events == len(dataset.items) == len(dataset.timestamps)
    assert {c.name for c in schema.item_columns} == {"title", "colour", "tags", "price"}
    catalogue = pl.read_parquet(dataset.path / "catalogue.parquet")
    assert catalogue["item_id"].to_list() == dataset.vocabulary("item").to_pylist()
    assert set(catalogue["item_id"]) == set(items["item_id"]) | set(log["item_id"])
    titles = dict(items.select("item_id", "title").rows())
    assert catalogue["title"].to_list() == [titles.get(i) for i in catalogue["item_id"]]
    prices = dict(items.select("item_id", "price").rows())
    expected = [prices.get(i) for i in catalogue["item_id"]]
    np.testing.assert_array_equal(
        dataset.item_table["price"][1:], np.array(expected, dtype=np.float32)
    )
    colours = dataset.vocabulary("colour").to_pylist()
    known = dataset.item_table["colour"][1:] >= 2
    of_known = [colours[c - 2] for c in dataset.item_table["colour"][1:][known]]
    assert of_known == catalogue["colour"].filter(pl.Series(known)).to_list()


def test_the_manifest_names_its_parent_and_config(
    build_events: BuildEvents, build: Build, random_log: Random
) -> None:
    events = build_events(random_log(0))
    dataset = build(events, split=LastSession(gap_minutes=600), min_user_events=3)
    assert dataset.manifest.parent == read_manifest(events, "events").sha256
    features = dataset.manifest.config["features"]
    assert features["split"] == {"name": "last-session", "gap_minutes": 600}
    assert features["min_user_events"] == 3
    assert dataset.schema.split == features["split"]


def test_named_sessions_are_held_out_whole(
    build_events: BuildEvents, build: Build, random_log: Random
) -> None:
    log = random_log(4).with_columns(
        session_id=pl.col("timestamp").dt.date().cast(pl.String) + pl.col("user_id")
    )
    dataset = build(build_events(log), split=LastSession(gap_minutes=1))
    cases = dataset.cases("test")
    days = dataset.timestamps // 86_400_000_000
    assert len(cases)
    for cut, end in zip(cases.cuts, cases.ends, strict=True):
        assert len(set(days[cut:end])) == 1
        assert days[cut - 1] < days[cut]


def test_two_builds_are_equal_byte_for_byte(
    build_events: BuildEvents, build: Build, random_log: Random, random_items: Random
) -> None:
    events = build_events(random_log(5), random_items(5))
    one, two = build(events, "one"), build(events, "two")
    assert one.manifest == two.manifest
    assert len(one.manifest.files) >= 10


def test_one_line_says_what_was_built(
    build_events: BuildEvents, build: Build, capsys: pytest.CaptureFixture[str], random_log: Random
) -> None:
    log = random_log(3)
    dataset = build(build_events(pl.concat([log, log.tail(1)])), duplicates="exact")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    kept = log.unique().height
    assert f"{kept:,} of {len(log) + 1:,} events kept" in line
    assert f"{dataset.schema.num_items} items ({dataset.schema.num_warm_items} in train" in line
    cases = dataset.cases("test")
    targets = (cases.ends - cases.cuts).sum()
    tested = dataset.items[dataset.timestamps >= dataset.schema.split["test_from"]]
    cold = tested > dataset.schema.num_warm_items
    assert f"test {targets} targets of {len(cases)} users ({cold.sum()} on cold items" in line


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"events": ("vieww",)}, r"of 500 events none is left .*'buy', 'cart', 'view'"),
        ({"events": ("view", "vieww")}, r"names behaviours \['vieww'\], the log has \['view'\]"),
        ({"target_events": ("love",)}, r"names behaviours \['love'\], the log has \['buy'"),
        ({"min_item_events": 400}, r"of 500 events none is left .*'min_item_events': 400"),
        ({"item_columns": ("brand",)}, r"item_columns names \['brand'\], .* declares \['colour'"),
    ],
)
def test_settings_that_do_not_fit_the_log_are_refused(
    config: dict,
    message: str,
    build_events: BuildEvents,
    build: Build,
    tmp_path: Path,
    random_log: Random,
    random_items: Random,
) -> None:
    events = build_events(random_log(0), random_items(0))
    with pytest.raises(InputError, match=message):
        build(events, **config)
    assert [path.name for path in tmp_path.iterdir() if "dataset" in path.name] in (
        [],
        [".dataset.lock"],
    )


def test_unusable_events_directories_are_refused(
    build_events: BuildEvents, build: Build, tmp_path: Path, random_log: Random
) -> None:
    with pytest.raises(InputError, match="of the stage `events`"):
        build(tmp_path)
    log = random_log(0)
    with pytest.raises(InputError, match="are older than the same user's row"):
        build(build_events(log.reverse(), name="backwards"))
    with pytest.raises(InputError, match="has no column item_id"):
        build(build_events(log.drop("item_id"), name="narrow"))
    with pytest.raises(InputError, match=r"is empty"):
        build(build_events(log.clear(), name="empty"))
    nameless = log.with_columns(session_id=pl.lit(None, pl.String))
    with pytest.raises(InputError, match="500 of 500 rows have no session_id"):
        build(build_events(nameless, name="nameless"), split=LastSession())
    with pytest.raises(InputError, match=r"items.parquet is missing, .*catalogue='items'"):
        build(build_events(log, name="bare"), catalogue="items")
    damaged = build_events(log, name="damaged")
    content = bytearray((damaged / "events.parquet").read_bytes())
    content[100] ^= 1
    (damaged / "events.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"events.parquet is damaged: sha256"):
        build(damaged)


def test_an_existing_dataset_is_never_overwritten(
    build_events: BuildEvents, build: Build, random_log: Random
) -> None:
    events = build_events(random_log(0))
    dataset = build(events)
    with pytest.raises(InputError, match="exists: choose a new directory or delete it"):
        build(events, split=GlobalTime(test=0.2))
    assert Dataset.open(dataset.path, verify=True).manifest == dataset.manifest
    assert json.loads((dataset.path / "schema.json").read_text())["split"]["test"] == 0.1


def test_a_column_can_be_encoded_as_another_kind(
    build_events: Callable[..., Path],
    build: Callable[..., Dataset],
    random_log: Callable[..., pl.DataFrame],
    random_items: Callable[..., pl.DataFrame],
) -> None:
    events = build_events(random_log(0), random_items(0))
    dataset = build(events, item_kinds={"colour": "text", "tags": "path"})
    kinds = {column.name: column.kind for column in dataset.schema.item_columns}
    assert kinds["colour"] == "text"
    assert kinds["tags.1"] == "category"
    with pytest.raises(InputError, match=r"item_kinds names \['color'\]"):
        build(events, name="other", item_kinds={"color": "text"})

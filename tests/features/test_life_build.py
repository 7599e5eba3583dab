"""Datasets of lives: the time cut, the split by person, tokens from training people alone."""

import importlib.util
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from features.errors import InputError
from features.life_build import build_lives, prove_time_cut
from features.life_config import AtDate, GivenCases, LifeConfig, LifeField, OutcomeConfig
from features.life_encode import Documents, assemble, encode_documents, gather_events, merge_rows
from features.life_layout import GENERAL, NO_BIRTH, SEP, UNKNOWN
from features.life_store import Lives


def load_tables() -> ModuleType:
    path = Path(__file__).with_name("life_tables.py")
    spec = importlib.util.spec_from_file_location("life_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()


def build(folder: Path, settings: LifeConfig | None = None, **register: int) -> Lives:
    events, people = tables.register(**register)
    stage = tables.write_events(folder / "events", events, people)
    build_lives(stage, settings or tables.config(), folder / "lives")
    return Lives.open(folder / "lives", verify=True)


def test_an_event_of_the_landmark_never_reaches_the_tensors(tmp_path: Path) -> None:
    """2016-01-01 00:00 is outcome, not history (specification, section 9, 8)."""
    lives = build(tmp_path)
    assert "code=future" not in lives.schema.token_names, "tokens are fitted on the past alone"
    stamps = lives.timestamps
    assert stamps.max() < tables.LANDMARK.timestamp() * 1e6 + 1e6
    inputs = encode_documents(lives.documents(lives.rows("train")), lives.schema, 512)
    landmark_day = (date(2016, 1, 1) - date(2013, 1, 1)).days + 1
    assert inputs["days"].max() < landmark_day
    assert not (inputs["tokens"] == UNKNOWN).any()


def test_a_planted_leak_is_found(tmp_path: Path) -> None:
    lives = build(tmp_path)
    early = dict(lives.cases) | {"at": lives.cases["at"] - 400 * 86_400_000_000}
    with pytest.raises(InputError, match="reach into their outcome window"):
        prove_time_cut(replace(lives, cases=early))
    split = lives.cases["split"].copy()
    twice = {name: np.concatenate([x, x[:1]]) for name, x in lives.cases.items()}
    twice["split"][-1] = (split[0] + 1) % 3
    with pytest.raises(InputError, match="in two splits"):
        prove_time_cut(replace(lives, cases=twice))


def test_labels_by_their_definition(tmp_path: Path) -> None:
    lives, (events, _) = build(tmp_path), tables.register()
    end = tables.LANDMARK + timedelta(days=600)
    users = lives.raw_users().to_pylist()
    for row, case in enumerate(lives.cases["user"]):
        window = events.filter(
            (pl.col("user_id") == users[case])
            & (pl.col("timestamp") >= tables.LANDMARK)
            & (pl.col("timestamp") < end)
        )
        again, much = lives.cases["labels"][row]
        assert again == float("c" in window["code"].to_list())
        assert much == (2 if len(window) >= 3 else 1 if len(window) >= 1 else 0)


def test_persons_are_split_and_a_seed_decides(tmp_path: Path) -> None:
    lives = build(tmp_path)
    sizes = np.bincount(lives.cases["split"], minlength=3)
    assert sizes.sum() == len(lives.cases["user"])
    assert sizes[1] == sizes[2] == round(0.15 * sizes.sum())
    assert np.array_equal(build(tmp_path / "again").cases["split"], lives.cases["split"])
    other = build(tmp_path / "other", tables.config(seed=4))
    assert not np.array_equal(other.cases["split"], lives.cases["split"])


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert first.manifest is not None
    assert second.manifest is not None
    assert dict(first.manifest.files) == dict(second.manifest.files)


def test_quantiles_come_from_training_people_and_nothing_falls_below_them(tmp_path: Path) -> None:
    lives, (events, _) = build(tmp_path), tables.register()
    users = np.array(lives.raw_users().to_pylist())
    training = users[np.unique(lives.cases["user"][lives.rows("train")])]
    past = events.filter(pl.col("timestamp") < tables.LANDMARK)
    values = past.filter(pl.col("user_id").is_in(training.tolist()) & (pl.col("code") == "a"))
    field = next(f for f in lives.schema.fields if f.name == "amount")
    edges = field.edges[field.groups.index("a")]
    known = values["amount"].drop_nulls().to_numpy()
    expected = np.quantile(known, [0.25, 0.5, 0.75], method="higher")
    np.testing.assert_allclose(edges, expected)
    assert len(field.names) == sum(len(inner) + 1 for inner in field.edges)
    from features.life_tokens import encode_fields

    low = pl.DataFrame({"code": ["a", "a"], "amount": [-1e9, 1e9]})
    assert encode_fields(low, [field]).ravel().tolist() == [
        field.first + sum(len(i) + 1 for i in field.edges[: field.groups.index("a")]),
        field.first + sum(len(i) + 1 for i in field.edges[: field.groups.index("a")]) + len(edges),
    ]


def test_rare_values_are_unknown(tmp_path: Path) -> None:
    fields = (LifeField(name="code", min_people=10_000),)
    lives = build(tmp_path, tables.config(fields=fields))
    assert lives.schema.fields[0].values == ()
    assert set(np.unique(lives.tokens)) == {UNKNOWN}


def documents(times: list[list[int]], tokens: list[list[list[int]]]) -> Documents:
    """Two columns of tokens, no background."""
    lengths = np.array([len(t) for t in times])
    ends = lengths.cumsum()
    stamps = np.array([t for row in times for t in row], np.int64) * 86_400_000_000
    flat = np.array([pair for row in tokens for pair in row], np.int32).reshape(-1, 2)
    none = np.zeros((len(times), 0), np.int32)
    births = np.full(len(times), NO_BIRTH)
    return Documents(stamps, flat, ends - lengths, ends, none, births)


def test_a_document_keeps_its_most_recent_whole_events(tmp_path: Path) -> None:
    schema = replace(build(tmp_path).schema, origin=0)
    life = documents([[0, 1, 2, 3]], [[[5, 6], [7, 0], [8, 9], [10, 0]]])
    whole = encode_documents(life, schema, 64)
    assert whole["tokens"][0].tolist() == [1, 2, 5, 6, 2, 7, 2, 8, 9, 2, 10, 2]
    assert whole["days"][0].tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4]
    assert whole["segments"][0].tolist() == [1, 1, 2, 2, 2, 3, 3, 1, 1, 1, 2, 2]
    for room in (7, 8):  # 3 + 2 tokens fit after CLS SEP; a part of an event never
        cut = encode_documents(life, schema, room)
        assert cut["tokens"][0].tolist() == [1, 2, 8, 9, 2, 10, 2]
    assert encode_documents(life, schema, 5)["tokens"][0].tolist() == [1, 2, 10, 2]


def test_rows_of_a_moment_become_one_event() -> None:
    tokens = np.array([[5, 0], [6, 7], [8, 0], [0, 0], [9, 0]], np.int32)
    owner, stamps = np.array([0, 0, 0, 0, 1]), np.array([1, 1, 2, 2, 2])
    merged, first = merge_rows(tokens, owner, stamps, 4)
    assert merged.tolist() == [[5, 6, 7, 0], [8, 0, 0, 0], [9, 0, 0, 0]]
    assert first.tolist() == [0, 2, 4]
    narrow, _ = merge_rows(tokens, owner, stamps, 2)
    assert narrow.tolist() == [[5, 6], [7, 0], [8, 0], [9, 0]]


def test_a_batch_equals_its_rows_and_no_events_is_a_document(tmp_path: Path) -> None:
    lives = build(tmp_path)
    rows = lives.rows("train")
    together = encode_documents(lives.documents(rows), lives.schema, 40)
    for place, row in enumerate(rows):
        alone = encode_documents(lives.documents(np.array([row])), lives.schema, 40)
        width = alone["tokens"].shape[1]
        for name, values in alone.items():
            np.testing.assert_array_equal(together[name][place, :width], values[0])
            assert not together[name][place, width:].any()
    life = lives.documents(rows[:1])
    empty = encode_documents(replace(life, ends=life.starts), lives.schema, 40)
    assert empty["tokens"].shape == (1, lives.schema.num_prefix + 1)
    assert empty["tokens"][0, -1] == SEP


def test_ages_are_years_since_birth(tmp_path: Path) -> None:
    lives, (_, people) = build(tmp_path), tables.register()
    row = lives.rows("train")[:1]
    block = gather_events(lives.documents(row), lives.schema, 512)
    birth = people["birth"][lives.raw_users().to_pylist().index(
        lives.raw_users()[int(lives.cases["user"][row[0]])].as_py())]  # fmt: skip
    start = lives.users["start"][lives.cases["user"][row[0]]]
    event = datetime(1970, 1, 1) + timedelta(microseconds=int(lives.timestamps[start]))
    assert block.ages[0] == pytest.approx((event - birth).days / 365.25, abs=0.01)
    assert assemble(block, 512)["ages"][0, : lives.schema.num_prefix].tolist() == [0.0, 0.0]


def test_given_cases_may_be_several_a_person(tmp_path: Path) -> None:
    events, people = tables.register()
    moments = [datetime(2015, 6, 1), datetime(2016, 1, 1)]
    outcomes = people.select("user_id").join(pl.DataFrame({"at": moments}), how="cross")
    outcomes = outcomes.with_columns(
        pl.col("at").cast(pl.Datetime("us")), sick=pl.int_range(pl.len()) % 3 == 0
    )
    stage = tables.write_events(tmp_path / "events", events, people, outcomes)
    settings = tables.config(cohort=GivenCases(), outcomes=(OutcomeConfig(name="sick"),))
    build_lives(stage, settings, tmp_path / "lives")
    lives = Lives.open(tmp_path / "lives")
    assert len(lives.cases["user"]) == 2 * len(people)
    per_person = {tuple(lives.cases["split"][lives.cases["user"] == u]) for u in range(len(people))}
    assert all(first == second for first, second in per_person), "one split a person"


def test_a_birth_field_and_general_tokens_have_names(tmp_path: Path) -> None:
    lives = build(tmp_path, tables.config(birth_tokens=True))
    names = lives.schema.token_names
    assert names[: len(GENERAL)] == GENERAL
    assert len(names) == len(set(names)) == lives.schema.num_tokens
    assert {"sex=f", "birth_year=1950", "birth_month=1", "code=a", "tags=x"} <= set(names)
    assert lives.schema.num_prefix == 1 + 3


BAD = {
    "a column that is not there": ({"fields": (LifeField(name="colour"),)}, "no column colour"),
    "a number read as a list": (
        {"fields": (LifeField(name="amount", kind="categories"),)},
        "does not fit",
    ),
    "a background that is not there": (
        {"background": (LifeField(name="income"),)},
        "lacks \\['income'\\]",
    ),
    "a window beyond the log": (
        {"cohort": AtDate(at=date(2016, 1, 1), window_days=9_000)},
        "outcome window ends",
    ),
    "nobody before the landmark": (
        {"cohort": AtDate(at=date(1990, 1, 1), window_days=30)},
        "cohort is empty",
    ),
    "given cases that are not there": (
        {"cohort": GivenCases(), "outcomes": (OutcomeConfig(name="sick"),)},
        "needs an outcomes table",
    ),
}


def test_times_that_are_numbers_are_refused(tmp_path: Path) -> None:
    events, people = tables.register()
    numbers = events.with_columns(pl.col("timestamp").to_physical())
    stage = tables.write_events(tmp_path / "events", numbers, people)
    with pytest.raises(InputError, match=r"timestamp of type Int64, expected Datetime\(us\)"):
        build_lives(stage, tables.config(), tmp_path / "lives")


@pytest.mark.parametrize("case", BAD)
def test_unusable_tables_are_one_sentence(case: str, tmp_path: Path) -> None:
    options, sentence = BAD[case]
    with pytest.raises(InputError, match=sentence):
        build(tmp_path, tables.config(**options))
    assert not (tmp_path / "lives").exists()

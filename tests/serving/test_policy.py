"""Filters of the policy: each against its definition over the toy's attributes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from features.encode import Histories
from serving.errors import BundleError, RequestError
from serving.options import Options
from serving.policy_spec import (
    MMR,
    Availability,
    FrequencyCap,
    Freshness,
    PolicySpec,
    Quota,
    RangeRule,
    ValueRule,
)
from serving.recommender import Recommender

CUTOFF, DAY, HOUR = 1_700_000_000_000_000, 86_400_000_000, 3_600_000_000
HISTORY = [50, 90]


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory, make_toy: Callable) -> Recommender:
    path = tmp_path_factory.mktemp("shop") / "bundle"
    return Recommender.load(make_toy(path, attributes=True).path)


def listed(recommender: Recommender, spec: PolicySpec, **ask: Any) -> list[int]:
    history = ask.pop("history", HISTORY)
    shown = ask.pop("shown", ())
    options = Options(policy=spec, shown=shown)
    answer = recommender.recommend(history, k=60, options=options, **ask)
    return [item.item_id // 10 for item in answer.items]


def everything(recommender: Recommender) -> list[int]:
    return listed(recommender, PolicySpec())


RULES: list[tuple[str, Any, Callable[[int], bool]]] = [
    ("never", ValueRule(column="genre", values=("drama",)), lambda i: i % 4 != 2),
    ("only", ValueRule(column="genre", values=("drama",), action="only"), lambda i: i % 4 == 2),
    ("two", ValueRule(column="genre", values=("action", "comedy")), lambda i: i % 4 in (0, 2)),
    ("list", ValueRule(column="tags", values=("even", "a")), lambda i: i % 2 != 0 and i % 3 != 0),
    ("low", RangeRule(column="price", low=20), lambda i: i >= 20 and i % 7 != 0),
    ("range", RangeRule(column="price", low=20, high=30), lambda i: 20 <= i <= 30 and i % 7 != 0),
    ("missing", RangeRule(column="price", high=9, missing=True), lambda i: i <= 9 or i % 7 == 0),
]


@pytest.mark.parametrize(("name", "rule", "permitted"), RULES, ids=[rule[0] for rule in RULES])
def test_a_rule_leaves_the_order_of_what_it_permits(
    recommender: Recommender, name: str, rule: Any, permitted: Callable[[int], bool]
) -> None:
    expected = [item for item in everything(recommender) if permitted(item)]
    assert 0 < len(expected) < 58
    assert listed(recommender, PolicySpec(rules=(rule,))) == expected
    for source_history in ([], [999]):  # popularity alone
        found = listed(recommender, PolicySpec(rules=(rule,)), history=source_history)
        assert sorted(found) == [item for item in range(1, 61) if permitted(item)]


def test_rules_lists_and_seen_items_add_up(recommender: Recommender) -> None:
    spec = PolicySpec(rules=(RULES[0][1], RULES[4][1]), deny=(210,), exclude_seen=False)
    found = listed(recommender, spec, deny=[220, 12345], allow=[10 * i for i in range(1, 41)])
    expected = {i for i in range(20, 41) if i % 4 != 2 and i % 7 != 0} - {21, 22}
    assert set(found) == expected
    assert set(listed(recommender, PolicySpec(allow=(210, 220, 230)))) == {21, 22, 23}


def test_availability_counts_at_the_moment_of_the_request(recommender: Recommender) -> None:
    spec = PolicySpec(availability=Availability(start="released", end="withdrawn"))
    for day in (-40, -10, 0, 10, 40):
        at = CUTOFF + day * DAY
        expected = {
            i for i in range(1, 61) if -i <= day and (i % 2 or day < i) and i * 10 not in HISTORY
        }
        assert set(listed(recommender, spec, at=at)) == expected
        many = recommender.rank(
            Histories.of([[5, 9], []]),
            k=60,
            at=np.array([at, CUTOFF]),
            policy=recommender.policy_of(Options(policy=spec)),
        )
        assert set(many.items[0].tolist()) - {0} == expected
        assert set(many.items[1].tolist()) - {0} == set(range(1, 61))


def test_a_cap_leaves_out_what_was_met_often_of_late(recommender: Recommender) -> None:
    at = CUTOFF
    events = [(70, at - 30 * HOUR), (70, at - 2 * HOUR), (80, at - 2 * HOUR), (80, at - HOUR)]
    cap = FrequencyCap(at_most=2, hours=24)
    spec = PolicySpec(exclude_seen=False, caps=(cap,))
    assert set(range(1, 61)) - set(listed(recommender, spec, history=events, at=at)) == {8}
    shown = [70, 100, 100]  # told by the request: one more of 7, two of 10
    found = listed(recommender, spec, history=events, at=at, shown=shown)
    assert set(range(1, 61)) - set(found) == {7, 8, 10}
    week = PolicySpec(exclude_seen=False, caps=(replace(cap, hours=48),))
    assert set(range(1, 61)) - set(listed(recommender, week, history=events, at=at)) == {7, 8}


def test_a_cap_counts_by_attribute_and_behaviour(recommender: Recommender) -> None:
    at = CUTOFF
    views = [(10, at - HOUR, "view"), (50, at - HOUR, "view"), (20, at - HOUR, "buy")]
    cap = FrequencyCap(at_most=2, column="genre", events=("view",))
    found = listed(recommender, PolicySpec(exclude_seen=False, caps=(cap,)), history=views, at=at)
    assert set(found) == {i for i in range(1, 61) if i % 4 != 1}
    many = recommender.rank(
        Histories.of([[1, 5], [2, 6]], [[at, at], [at, at]], [[1, 1], [1, 1]]),
        k=60,
        at=np.array([at, at]),
        policy=recommender.policy_of(Options(policy=PolicySpec(exclude_seen=False, caps=(cap,)))),
    )
    assert set(many.items[0].tolist()) - {0} == {i for i in range(1, 61) if i % 4 != 1}
    assert set(many.items[1].tolist()) - {0} == {i for i in range(1, 61) if i % 4 != 2}


WRONG: list[tuple[PolicySpec, str]] = [
    (PolicySpec(rules=(ValueRule(column="genr", values=("x",)),)), "no such column.*'genre'"),
    (PolicySpec(rules=(ValueRule(column="price", values=(1,)),)), "a numeric column"),
    (PolicySpec(rules=(ValueRule(column="genre", values=("horor",)),)), "no value 'horor'"),
    (PolicySpec(availability=Availability(start="price")), "kind timestamp"),
    (PolicySpec(freshness=Freshness(column="genre")), "kind timestamp"),
    (PolicySpec(caps=(FrequencyCap(at_most=1, events=("veiw",)),)), "'veiw'.*view"),
    (PolicySpec(quotas=(Quota(column="released", at_most=1),)), "category or categories"),
    (PolicySpec(diversity=MMR(similarity="price")), "a numeric column"),
]


@pytest.mark.parametrize(("spec", "reason"), WRONG)
def test_a_policy_that_does_not_fit_the_bundle_is_refused(
    recommender: Recommender, spec: PolicySpec, reason: str
) -> None:
    with pytest.raises(RequestError, match=reason):
        recommender.recommend([10], options=Options(policy=spec))


def test_a_bundle_whose_own_policy_does_not_fit_does_not_load(
    tmp_path: Path, make_toy: Callable
) -> None:
    toy = make_toy(tmp_path / "bundle", policy=WRONG[0][0])
    with pytest.raises(BundleError, match=r"policy of .* does not fit it.*no such column"):
        Recommender.load(toy.path)


@pytest.mark.parametrize(
    "written",
    [
        {"rulez": []},
        {"rules": [{"column": "genre", "values": []}]},
        {"rules": [{"column": "price"}]},
        {"rules": [{"column": "price", "low": 3.0, "high": 1.0}]},
        {"caps": [{"at_most": 0}]},
        {"quotas": [{"column": "genre"}]},
        {"quotas": [{"column": "genre", "at_least": 2}]},
        {"quotas": [{"column": "genre", "at_most": 20}]},
        {"availability": {}},
        {"diversity": {"name": "mmr", "weight": 1.5}},
        {"diversity": {"name": "dpp", "weight": 1.0}},
        {"diversity": {"name": "mrr"}},
        {"exploration": {"name": "epsilon", "share": 2}},
        {"window": 0},
    ],
)
def test_what_makes_no_sense_is_refused_when_read(written: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(PolicySpec).validate_python(written)


def test_the_stored_policy_acts_on_every_way_in(tmp_path: Path, make_toy: Callable) -> None:
    """One object: single requests, frames and ranking in dense ids give the same lists."""
    spec = PolicySpec(
        rules=(RULES[0][1],),
        availability=Availability(start="released"),
        diversity=MMR(weight=0.5),
        quotas=(Quota(column="tags", at_most=4, within=10),),
        freshness=Freshness(column="released"),
        window=30,
    )
    path = make_toy(tmp_path / "bundle", attributes=True, policy=spec).path
    recommender = Recommender.load(path)
    assert recommender.manifest.policy == spec, "read back as it was written"
    lists = [[5, 9], [1], [], [60, 2, 3, 60]]
    found = recommender.rank(Histories.of(lists), k=12, at=np.full(4, CUTOFF))
    frame = pl.DataFrame(
        [(f"u{n}", item * 10, CUTOFF) for n, one in enumerate(lists) for item in one],
        schema=["user_id", "item_id", "timestamp"],
        orient="row",
    )
    many = recommender.recommend_many(frame, k=12)
    for row, one in enumerate(lists):
        alone = recommender.recommend([item * 10 for item in one], k=12, at=CUTOFF)
        items = [item.item_id for item in alone.items]
        assert [10 * item for item in found.items[row].tolist() if item] == items
        if one:
            assert many.filter(pl.col("user_id") == f"u{row}")["item_id"].to_list() == items
    plain = Recommender.load(make_toy(tmp_path / "plain", attributes=True).path)
    assert plain.recommend([50], k=12) != recommender.recommend([50], k=12)

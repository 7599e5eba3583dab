"""The shop is reproducible, and what its documentation plants is really in the tables."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from data.config import Synthetic
from data.shop import Shop
from data.synthetic import ITEM_COLUMNS, World, load, make_world
from data.tables import Tables
from data.words import BRAND_NAMES, LEAVES, NAMES
from features.schema import check_events, check_items

CONFIG = Synthetic(num_users=1_200, num_items=400, clicks_per_user=30, seed=3)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(CONFIG)


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load(CONFIG)


@pytest.fixture(scope="module")
def items(tables: Tables) -> pl.DataFrame:
    assert tables.items is not None
    return tables.items


def test_the_tables_meet_the_contracts(tables: Tables, items: pl.DataFrame) -> None:
    check_events(tables.events, "test")
    check_items(items, "test", ITEM_COLUMNS)
    assert tables.item_columns == ITEM_COLUMNS
    assert items.height == 400
    assert items["title"].n_unique() == 400
    assert tables.users is not None
    assert tables.users["user_id"].n_unique() == tables.users.height == 1_200


def test_the_same_seed_gives_the_same_tables_and_another_does_not(tables: Tables) -> None:
    again, other = load(CONFIG), load(replace(CONFIG, seed=4))
    assert again.events.equals(tables.events)
    assert again.documents == tables.documents
    for name in ("items", "users"):
        assert getattr(again, name).equals(getattr(tables, name))
    assert not other.events.equals(tables.events)


def test_counts_are_near_what_was_asked(world: World) -> None:
    counts = world.clicks.counts
    assert counts[1:].min() >= 8
    assert counts.max() <= 4 * CONFIG.clicks_per_user
    assert abs(counts.mean() - CONFIG.clicks_per_user) < 2
    assert 0 <= world.clicks.day.min() < world.clicks.day.max() <= CONFIG.days


def test_ada_is_there_with_a_history_to_show(tables: Tables) -> None:
    clicks = tables.events.filter(pl.col("user_id") == "ada", pl.col("event") == "click")
    assert clicks.height == 24


def test_nobody_clicks_an_item_twice(tables: Tables) -> None:
    clicks = tables.events.filter(event="click")
    assert not clicks.select("user_id", "item_id").is_duplicated().any()


def transitions(world: World) -> np.ndarray:
    """(N, N) how often a click on the row was followed by one on the column, by the same user."""
    clicks = world.clicks
    same = clicks.user[1:] == clicks.user[:-1]
    num_items = len(world.shop.leaf)
    pairs = clicks.item[:-1][same] * num_items + clicks.item[1:][same]
    return np.bincount(pairs, minlength=num_items**2).reshape(num_items, num_items)


def test_rules_are_there_and_items_without_a_rule_show_none(world: World) -> None:
    counts = transitions(world)
    share = counts / counts.sum(axis=1, keepdims=True)
    ruled = np.flatnonzero(world.shop.follow[:, 0] >= 0)
    free = np.flatnonzero(world.shop.follow[:, 0] < 0)
    first = share[ruled, world.shop.follow[ruled, 0]]
    second = share[ruled, world.shop.follow[ruled, 1]]
    assert first.mean() > 0.25
    assert 0.04 < second.mean() < first.mean() / 3
    backwards = share[world.shop.follow[ruled, 0], ruled]
    assert backwards.mean() < first.mean() / 10  # an order, not a mere co-occurrence
    # 80 clicks follow an item: even the luckiest of all pairs without a rule stays below the rules
    assert np.median(share[free].max(axis=1)) < first.mean() / 2


def test_most_clicks_stay_in_tastes_and_departments(world: World) -> None:
    clicks, leaf = world.clicks, world.shop.leaf[world.clicks.item]
    liked = (world.people.tastes[clicks.user] == leaf[:, None]).mean(axis=0)
    by_chance = 1 / len(world.shop.members)
    assert liked[0] > 2 * by_chance
    assert liked[0] > liked[1] > liked[2] > by_chance


def test_popularity_drifts(world: World) -> None:
    """Clicks fall near the peak of an item's wave, sin(2 pi (t / 60 + peak)) = 1."""
    clicks, shop = world.clicks, world.shop
    wave = np.sin(2 * np.pi * (clicks.day / 60 + shop.peak[clicks.item]))
    shuffled = np.sin(2 * np.pi * (np.random.default_rng(0).permutation(clicks.day) / 60
                                   + shop.peak[clicks.item]))  # fmt: skip
    assert wave.mean() > 0.08
    assert abs(shuffled.mean()) < 0.02


def test_late_items_come_late_and_then_fast(tables: Tables, items: pl.DataFrame) -> None:
    start = items["available_from"].min()
    late = items.filter(pl.col("available_from") > start)
    assert 0.1 < late.height / items.height < 0.2
    joined = tables.events.join(late.select("item_id", "available_from"), on="item_id")
    age = joined["timestamp"] - joined["available_from"]
    assert age.min() >= timedelta()  # type: ignore[operator]
    young = int((age < timedelta(days=10)).sum())
    older = int(age.is_between(timedelta(days=10), timedelta(days=20)).sum())
    assert young > 1.1 * older


def test_titles_tell_the_leaf_and_the_brand(items: pl.DataFrame) -> None:
    for title, path, brand in items.select("title", "category", "brand").rows():
        assert tuple(path) in LEAVES
        assert path[-1] in title
        assert title.startswith(brand)
    assert items["category"].n_unique() == 20
    price = dict(items.group_by("brand").agg(pl.col("price").median()).rows())
    assert price[BRAND_NAMES[-1]] > 1.3 * price[BRAND_NAMES[0]]


def cause(tables: Tables, world: World) -> Mapping[str, pl.DataFrame]:
    """For each reaction, the clicks with whether they had it, and the hidden state behind."""
    clicks, shop, people = world.clicks, world.shop, world.people
    events = tables.events.filter(event="click").with_columns(
        liked=pl.Series(
            (people.tastes[clicks.user] == shop.leaf[clicks.item][:, None]).any(axis=1)
        ),
        off=pl.Series(shop.price[clicks.item] - people.budget[clicks.user]),
    )
    keys = ["user_id", "item_id"]
    return {
        name: events.join(
            tables.events.filter(event=name).select(*keys, had=pl.lit(value=True)),
            on=keys,
            how="left",
        ).with_columns(pl.col("had").fill_null(value=False))
        for name in ("favourite", "cart", "buy")
    }


def test_every_reaction_has_its_own_cause(tables: Tables, world: World) -> None:
    frames = cause(tables, world)

    def rate(name: str, condition: pl.Expr) -> float:
        return float(frames[name].filter(condition)["had"].mean())  # type: ignore[arg-type]

    liked, near = pl.col("liked"), pl.col("off").abs() < 0.5
    assert rate("favourite", liked) > 2 * rate("favourite", ~liked)
    assert rate("cart", near) > 2 * rate("cart", pl.col("off").abs() > 1.5)
    cheap = near & (pl.col("off") <= 0)
    assert rate("buy", cheap) > 1.5 * rate("buy", near & (pl.col("off") > 0))
    buys, carts = (tables.events.filter(event=name) for name in ("buy", "cart"))
    both = buys.join(carts, on=["user_id", "item_id"])
    assert both.height == buys.height
    wait = both["timestamp"] - both["timestamp_right"]
    assert wait.is_between(timedelta(minutes=1), timedelta(minutes=20)).all()


def test_sessions_are_short_and_belong_to_one_user(tables: Tables) -> None:
    clicks = tables.events.filter(event="click")
    sessions = clicks.group_by("session_id").agg(pl.col("user_id").n_unique(), pl.len())
    assert sessions["user_id"].max() == 1
    assert 3 < float(sessions["len"].mean()) < 6  # type: ignore[arg-type]


def test_a_tiny_and_a_wide_shop_can_be_made() -> None:
    tiny = load(Synthetic(num_users=1, num_items=64, clicks_per_user=8, days=14))
    assert tiny.events["user_id"].unique().to_list() == ["ada"]
    shop = Shop.build(np.random.default_rng(0), 5_000, 30)
    assert shop.members.shape == (250, 20)
    wide = load(Synthetic(num_users=60, num_items=2_000, clicks_per_user=8))
    assert wide.items is not None
    assert wide.items["title"].n_unique() == 2_000
    assert wide.users is not None
    assert wide.users["user_id"][len(NAMES)] == "ada2"

"""A made-up shop with planted structure, so that a score can be held against the best possible.

What is planted stands in `data.shop` (items and people) and `data.clicks` (where a next click
comes from); how close a model can come, in `data.ceiling`. On top of the clicks lie three reactions
with causes of their own, always to the item just clicked:

    favourite   the leaf is one of the person's tastes, more so with their own brand
    cart        the price is near the one they like
    buy         after a cart, 1 to 20 minutes later, more often if it is not above their budget

A person clicks on an item at most once, so `seen` filters nothing that could still come; the
reactions repeat an item that was clicked, so they are signals and no fair targets. Hence for a
fair test: events = ["click"], target = the last click.

Times: each person's clicks fall into sessions (a new one with probability .2 a click, after days;
else after minutes) somewhere within the log's span.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from data.ceiling import ceiling
from data.clicks import Clicks, draw_clicks
from data.config import Synthetic
from data.shop import People, Shop
from data.tables import Tables
from data.words import BRAND_NAMES, COLOURS, STYLES, leaf_path, person_name
from features.layout import Kind

START = 1_735_689_600 * 1_000_000
"""2025-01-01, microseconds UTC."""
DAY = 86_400 * 1_000_000
SECOND = 1 / 86_400
"""In days."""
FEWEST_CLICKS = 8
CLICKS_OF_ADA = 24
NEW_SESSION = 0.2
CART_WIDTH = 0.8
"""How far from the liked price a cart becomes rare, in the units of `Shop.price`."""
BLOCK_CELLS = 100_000_000
"""Users times items held at once while clicks are drawn."""

ITEM_COLUMNS: dict[str, Kind] = {
    "title": "text",
    "category": "categories",
    "brand": "category",
    "price": "numeric",
    "available_from": "timestamp",
}


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is true of one shop and its log."""

    shop: Shop
    people: People
    clicks: Clicks


def make_world(config: Synthetic) -> World:
    """Draw the shop, its people, and all clicks; the same config gives the same world."""
    shop = Shop.build(np.random.default_rng([config.seed, 0]), config.num_items, config.days)
    people = People.build(
        np.random.default_rng([config.seed, 1]), config.num_users, len(shop.members)
    )
    size = max(1, min(2_000, BLOCK_CELLS // config.num_items))
    blocks = []
    for number, first in enumerate(range(0, config.num_users, size)):
        rng = np.random.default_rng([config.seed, 2, number])
        users = np.arange(first, min(first + size, config.num_users))
        counts = _click_counts(rng, users, config)
        days, fresh = _click_days(rng, counts, config)
        items = draw_clicks(rng, shop, people, users, days, counts)
        blocks.append(Clicks.from_padded(items, days, fresh, counts))
    return World(shop, people, Clicks.join(blocks))


def _click_counts(rng: np.random.Generator, users: np.ndarray, config: Synthetic) -> np.ndarray:
    chance = 1 / (config.clicks_per_user - FEWEST_CLICKS + 1)
    counts = FEWEST_CLICKS - 1 + rng.geometric(chance, len(users))
    counts = np.minimum(counts, 4 * config.clicks_per_user)
    return np.where(users == 0, min(CLICKS_OF_ADA, config.num_items // 4), counts)


def _click_days(
    rng: np.random.Generator, counts: np.ndarray, config: Synthetic
) -> tuple[np.ndarray, np.ndarray]:
    """Day of each click and whether it opens a session, (B, L) each."""
    shape = (len(counts), int(counts.max()))
    fresh = rng.random(shape) < NEW_SESSION
    fresh[:, 0] = True
    rest = 0.4 * config.days / (NEW_SESSION * config.clicks_per_user)
    gaps = np.where(fresh, rng.exponential(rest, shape), rng.exponential(180 * SECOND, shape))
    gaps[:, 0] = 0
    days = np.cumsum(gaps, axis=1)
    length = days[np.arange(len(counts)), counts - 1]
    shrink = np.minimum(1.0, 0.95 * config.days / np.maximum(length, SECOND))
    start = rng.random(len(counts)) * (config.days - length * shrink)
    return start[:, None] + days * shrink[:, None], fresh


def load(config: Synthetic) -> Tables:
    """The shop's tables, and `ceiling.json`."""
    world = make_world(config)
    rng = np.random.default_rng([config.seed, 3])
    item_ids = [f"P{number:05d}" for number in rng.permutation(config.num_items)]
    return Tables(
        events=_event_table(rng, world, item_ids),
        items=_item_table(rng, world.shop, item_ids),
        users=_user_table(rng, world.people),
        item_columns=ITEM_COLUMNS,
        title_column="title",
        licence="made up by this program: no rights attach",
        documents={"ceiling.json": ceiling(world.shop, world.people, world.clicks)},
    )


def _event_table(rng: np.random.Generator, world: World, item_ids: list[str]) -> pl.DataFrame:
    shop, people, clicks = world.shop, world.people, world.clicks
    total = len(clicks.item)
    off = shop.price[clicks.item] - people.budget[clicks.user]
    liked = (people.tastes[clicks.user] == shop.leaf[clicks.item][:, None]).any(axis=1)
    own = shop.brand[clicks.item] == people.brand[clicks.user]
    near = np.exp(-((off / CART_WIDTH) ** 2) / 2)
    favourite = rng.random(total) < 0.02 + liked * (0.06 + 0.12 * own)
    cart = rng.random(total) < 0.02 + 0.25 * near
    buy = cart & (rng.random(total) < np.where(off <= 0, 0.65, 0.3))
    after_click = rng.uniform(20, 60, total) * SECOND
    delays = {
        "click": np.zeros(total),
        "favourite": rng.uniform(5, 20, total) * SECOND,
        "cart": after_click,
        "buy": after_click + rng.uniform(60, 1200, total) * SECOND,
    }
    chosen = {"click": np.ones(total, bool), "favourite": favourite, "cart": cart, "buy": buy}
    rows = np.concatenate([np.flatnonzero(mask) for mask in chosen.values()])
    kinds = np.repeat(np.arange(len(chosen)), [int(mask.sum()) for mask in chosen.values()])
    days = np.concatenate([(clicks.day + delays[k])[m] for k, m in chosen.items()])
    micros = START + np.rint(days * DAY).astype(np.int64)
    order = np.lexsort((kinds, micros, clicks.user[rows]))
    rows, kinds, micros = rows[order], kinds[order], micros[order]
    names = pl.Series([person_name(user) for user in range(len(people.brand))])
    return pl.DataFrame(
        {
            "user_id": names.gather(clicks.user[rows]),
            "item_id": pl.Series(item_ids).gather(clicks.item[rows]),
            "timestamp": pl.Series(micros).cast(pl.Datetime("us")),
            "event": pl.Series(list(chosen)).gather(kinds),
            "session_id": clicks.session[rows],
        }
    )


def _item_table(rng: np.random.Generator, shop: Shop, item_ids: list[str]) -> pl.DataFrame:
    paths = [leaf_path(leaf) for leaf in range(len(shop.members))]
    looks = len(STYLES) * len(COLOURS)
    look = np.zeros(len(item_ids), np.int64)
    for row in shop.members:
        real = row[row >= 0]
        look[real] = rng.permutation(looks)[: len(real)]
    usual = np.exp(rng.normal(3.5, 0.7, len(paths)))
    titles = [
        f"{BRAND_NAMES[brand]} {STYLES[style]} {paths[leaf][2]}, {COLOURS[colour]}"
        for brand, leaf, style, colour in zip(
            shop.brand, shop.leaf, look // len(COLOURS), look % len(COLOURS), strict=True
        )
    ]
    opening = START + np.rint(shop.available * DAY).astype(np.int64)
    return pl.DataFrame(
        {
            "item_id": item_ids,
            "title": titles,
            "category": [paths[leaf] for leaf in shop.leaf],
            "brand": [BRAND_NAMES[brand] for brand in shop.brand],
            "price": np.round(usual[shop.leaf] * np.exp(0.4 * shop.price), 2),
            "available_from": pl.Series(opening).cast(pl.Datetime("us")),
        }
    )


def _user_table(rng: np.random.Generator, people: People) -> pl.DataFrame:
    """Age is a hint at the budget: half a standard deviation of it, the rest is chance."""
    age = 42 + 10 * (0.6 * people.budget / 0.8 + 0.8 * rng.normal(size=len(people.budget)))
    return pl.DataFrame(
        {
            "user_id": [person_name(user) for user in range(len(people.budget))],
            "age": np.clip(np.rint(age), 18, 90).astype(np.int64),
        }
    )

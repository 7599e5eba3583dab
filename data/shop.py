"""The shop behind `data.synthetic`: its items, its people, and what is true of them.

Planted, and seen in the tables:
  category tree   department > category > product, a leaf of about 20 items. Leaf l of item j is
                  j mod G. The title names the product, so a text tells the leaf.
  brand, price    12 brands, cheap to dear; the price is the product's level, times the brand's,
                  times noise.
  late items      15 % of the items become available only after the log has begun.
Planted, and hidden:
  tastes          each person likes 3 leaves, with weights .7, .2, .1, one brand, and one price.
  follow-ups      70 % of the items have one: after item j comes one certain item of the leaf that
                  follows j's within the department (85 %), or one other (15 %). The first is a
                  permutation, so no item follows many. The other 30 % of items have none: what is
                  clicked after them must not look like a rule.
  popularity      Zipf within a leaf, times a wave of 60 days that peaks at another time for each
                  item, times a bonus after a late item's start.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LEAF_SIZE = 20
"""Items in a leaf of the category tree, about."""
TASTE_WEIGHTS = np.array([0.7, 0.2, 0.1])
FOLLOW_WEIGHTS = np.array([0.85, 0.15])
RULED = 0.7
"""Share of items with follow-ups."""
LATE = 0.15
ZIPF = 1.2
WAVE, WAVE_DAYS = 0.7, 60.0
"""Height of the popularity wave (log scale) and its period."""
LAUNCH, LAUNCH_DAYS = 3.0, 10.0
BRANDS = 12
BRAND_LIKING = 2.5
"""How much more often a person's own brand is chosen."""
PRICE_WIDTH = 1.5
"""Standard deviation of the price (log, in units of the leaf's spread) that a person accepts."""


@dataclass(frozen=True, slots=True)
class Shop:
    """N items in G leaves. Row j is item j; -1 stands for no item."""

    leaf: Ints
    """(N,)"""
    members: Ints
    """(G, M) items of each leaf, -1 padding."""
    follow: Ints
    """(N, 2) what comes after an item; both -1 for an item without a rule."""
    popularity: Floats
    """(N,) weight within the leaf, before waves."""
    peak: Floats
    """(N,) phase of the wave, in periods."""
    available: Floats
    """(N,) day from which an item can be clicked; 0 for most."""
    brand: Ints
    """(N,)"""
    price: Floats
    """(N,) log price in units of the leaf's spread: 0 is the leaf's usual."""

    @classmethod
    def build(cls, rng: np.random.Generator, num_items: int, days: int) -> "Shop":
        """Draw the items of a shop that is open for `days`."""
        num_leaves = max(3, num_items // LEAF_SIZE)
        item = np.arange(num_items)
        width = -(-num_items // num_leaves)
        members = np.arange(num_leaves)[:, None] + num_leaves * np.arange(width)
        members[members >= num_items] = -1
        rank = np.zeros(num_items, np.int64)
        for row in members:
            real = row[row >= 0]
            rank[real] = rng.permutation(len(real)) + 1
        brand = rng.integers(BRANDS, size=num_items)
        tier = (brand - (BRANDS - 1) / 2) / (BRANDS / 2)
        late = rng.random(num_items) < LATE
        start = rng.uniform(0.05, 0.9, num_items) * days
        return cls(
            leaf=item % num_leaves,
            members=members,
            follow=_follow_ups(rng, members, num_items),
            popularity=rank.astype(float) ** -ZIPF,
            peak=rng.random(num_items),
            available=np.where(late, start, 0.0),
            brand=brand,
            price=tier + rng.normal(0, 0.6, num_items),
        )


@dataclass(frozen=True, slots=True)
class People:
    """The hidden state of U persons."""

    tastes: Ints
    """(U, 3) leaves, the best liked first."""
    brand: Ints
    """(U,)"""
    budget: Floats
    """(U,) the log price they like, in the units of `Shop.price`."""

    @classmethod
    def build(cls, rng: np.random.Generator, num_users: int, num_leaves: int) -> "People":
        """Draw the people."""
        first = rng.integers(num_leaves, size=num_users)
        steps = rng.integers(1, num_leaves, size=num_users)
        second = (first + steps) % num_leaves
        rest = rng.integers(num_leaves - 2, size=num_users)
        low, high = np.minimum(first, second), np.maximum(first, second)
        third = rest + (rest >= low)
        third += third >= high
        return cls(
            tastes=np.stack([first, second, third], axis=1),
            brand=rng.integers(BRANDS, size=num_users),
            budget=rng.normal(0, 0.8, num_users),
        )


def next_leaf(num_leaves: int, per_department: int = 5) -> Ints:
    """(G,) the leaf whose items follow those of a leaf: round and round within its department."""
    leaf = np.arange(num_leaves)
    first = leaf // per_department * per_department
    size = np.minimum(per_department, num_leaves - first)
    return first + (leaf - first + 1) % size


def _follow_ups(rng: np.random.Generator, members: Ints, num_items: int) -> Ints:
    follow = np.full((num_items, 2), -1)
    for leaf, after in enumerate(next_leaf(len(members))):
        here, there = (row[row >= 0] for row in (members[leaf], members[after]))
        first = rng.permutation(there)
        second = rng.permutation(there)
        count = min(len(here), len(there))
        follow[here[:count], 0] = first[:count]
        follow[here[:count], 1] = np.where(
            second[:count] == first[:count], np.roll(second, 1)[:count], second[:count]
        )
    own = np.arange(num_items)[:, None]
    follow[(follow == own).any(axis=1)] = -1  # only in a department of one leaf
    follow[rng.random(num_items) >= RULED] = -1
    return follow


def leaf_weights(shop: Shop, people: People, users: Ints, leaves: Ints, day: Floats) -> Floats:
    """(R, M) how likely each member of `leaves` is, if user r clicks in that leaf on that day.

    A row sums to 1, or to 0 where nothing in the leaf is available yet.
    """
    items = shop.members[leaves]
    now = day[:, None]
    age = now - shop.available[items]
    wave = np.exp(WAVE * np.sin(2 * np.pi * (now / WAVE_DAYS + shop.peak[items])))
    late = shop.available[items] > 0
    launch = 1 + LAUNCH * late * np.exp(-np.maximum(age, 0) / LAUNCH_DAYS)
    liking = np.where(shop.brand[items] == people.brand[users][:, None], BRAND_LIKING, 1.0)
    off = (shop.price[items] - people.budget[users][:, None]) / PRICE_WIDTH
    weights = shop.popularity[items] * wave * launch * liking * np.exp(-off * off / 2)
    weights *= (items >= 0) & (age >= 0)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)

"""How people click in the synthetic shop: the one place that says where a next click comes from.

    P(next = j | user, day, clicks so far)  is proportional to
        [j is available and was not clicked before] * sum over causes c of MIX[c] * P_c(j)

    follow     what follows the last click                 (`Shop.follow`, .85 and .15)
    earlier    what follows the click before the last
    linger     another item of the last click's leaf       (`leaf_weights`)
    taste      an item of one of the user's three leaves   (`leaf_weights`)
    noise      any item, evenly

`draw_clicks` samples from it by rejection, `next_click` writes it out; a test holds them together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data.shop import (
    FOLLOW_WEIGHTS,
    TASTE_WEIGHTS,
    Floats,
    Ints,
    People,
    Shop,
    leaf_weights,
)

CAUSES = ("follow", "earlier", "linger", "taste", "noise")
MIX = np.array([0.44, 0.06, 0.28, 0.13, 0.09])


@dataclass(frozen=True, slots=True)
class Clicks:
    """E clicks, grouped by user, oldest first."""

    user: Ints
    """(E,)"""
    item: Ints
    """(E,)"""
    day: Floats
    """(E,) days since the log's start."""
    session: Ints
    """(E,) number of the session, from 0, never shared by users."""
    counts: Ints
    """(U,) clicks of each user."""

    @classmethod
    def from_padded(cls, items: Ints, days: Floats, fresh: NDArray[np.bool_], counts: Ints) -> Self:
        """From (B, L) arrays, of which row b counts up to counts[b]."""
        real = np.arange(items.shape[1]) < counts[:, None]
        user, _ = np.nonzero(real)
        return cls(user, items[real], days[real], np.cumsum(fresh[real]) - 1, counts)

    @classmethod
    def join(cls, blocks: Sequence["Clicks"]) -> "Clicks":
        """Blocks of users, one after the other."""
        users = np.cumsum([0, *(len(block.counts) for block in blocks)])
        sessions = np.cumsum([0, *(block.session[-1] + 1 for block in blocks)])
        return cls(
            np.concatenate([b.user + n for b, n in zip(blocks, users, strict=False)]),
            np.concatenate([b.item for b in blocks]),
            np.concatenate([b.day for b in blocks]),
            np.concatenate([b.session + n for b, n in zip(blocks, sessions, strict=False)]),
            np.concatenate([b.counts for b in blocks]),
        )

    def padded(self, users: Ints) -> tuple[Ints, Floats, Ints]:
        """Items (B, L) with -1 padding, days (B, L) with 0, and counts (B,) of some users."""
        counts = self.counts[users]
        real = np.arange(counts.max()) < counts[:, None]
        rows = (np.cumsum(self.counts) - self.counts)[users][:, None] + np.arange(counts.max())
        items, days = np.full(real.shape, -1), np.zeros(real.shape)
        items[real], days[real] = self.item[rows[real]], self.day[rows[real]]
        return items, days, counts


def draw_clicks(
    rng: np.random.Generator, shop: Shop, people: People, users: Ints, days: Floats, counts: Ints
) -> Ints:
    """(B, L) clicked items of `users`; row b has counts[b] of them, then -1. days: (B, L)."""
    clicks = np.full(days.shape, -1)
    seen = np.zeros((len(users), len(shop.leaf)), bool)
    for step in range(days.shape[1]):
        rows = np.flatnonzero(counts > step)
        last = clicks[rows, step - 1] if step > 0 else np.full(len(rows), -1)
        before = clicks[rows, step - 2] if step > 1 else np.full(len(rows), -1)
        left = np.arange(len(rows))
        while len(left):
            r, day = rows[left], days[rows[left], step]
            item = _propose(rng, shop, people, users[r], last[left], before[left], day)
            fine = (item >= 0) & ~seen[r, item] & (shop.available[item] <= day)
            clicks[r[fine], step] = item[fine]
            seen[r[fine], item[fine]] = True
            left = left[~fine]
    return clicks


def _propose(
    rng: np.random.Generator,
    shop: Shop,
    people: People,
    users: Ints,
    last: Ints,
    before: Ints,
    day: Floats,
) -> Ints:
    """(R,) one item a row from a cause drawn by MIX, or -1 where the cause has none to offer."""
    cause = np.searchsorted(np.cumsum(MIX)[:-1], rng.random(len(users)), side="right")
    item = rng.integers(len(shop.leaf), size=len(users))  # noise
    for number, source in enumerate((last, before)):
        rows = np.flatnonzero(cause == number)
        which = (rng.random(len(rows)) >= FOLLOW_WEIGHTS[0]).astype(int)
        item[rows] = np.where(source[rows] >= 0, shop.follow[source[rows], which], -1)
    rows = np.flatnonzero((cause == 2) | (cause == 3))
    taste = np.searchsorted(np.cumsum(TASTE_WEIGHTS)[:-1], rng.random(len(rows)), side="right")
    liked = people.tastes[users[rows], taste]
    lingers = cause[rows] == 2
    leaves = np.where(lingers, shop.leaf[last[rows]], liked)
    weights = np.cumsum(leaf_weights(shop, people, users[rows], leaves, day[rows]), axis=1)
    column = (weights < rng.random(len(rows))[:, None]).sum(axis=1)
    found = shop.members[leaves, np.minimum(column, weights.shape[1] - 1)]
    found[(column == weights.shape[1]) | (lingers & (last[rows] < 0))] = -1
    item[rows] = found
    return item


def next_click(
    shop: Shop, people: People, users: Ints, clicks: Ints, counts: Ints, day: Floats
) -> Floats:
    """(B, N) probability of each item as the click after the first counts[b] of clicks (B, L)."""
    rows = np.arange(len(users))
    chances = np.full((len(users), len(shop.leaf)), MIX[4] / len(shop.leaf))
    for number in range(2):
        source = np.where(counts > number, clicks[rows, counts - 1 - number], -1)
        for weight, column in zip(FOLLOW_WEIGHTS, shop.follow.T, strict=True):
            item = np.where(source >= 0, column[source], -1)
            real = item >= 0
            np.add.at(chances, (rows[real], item[real]), MIX[number] * weight)
    last = np.where(counts > 0, clicks[rows, counts - 1], -1)
    leaves = [(np.where(last >= 0, MIX[2], 0.0), shop.leaf[last])]
    leaves += [
        (np.full(len(users), MIX[3] * w), people.tastes[:, i][users])
        for i, w in enumerate(TASTE_WEIGHTS)
    ]
    for share, leaf in leaves:
        weights = leaf_weights(shop, people, users, leaf, day) * share[:, None]
        items = shop.members[leaf]
        np.add.at(chances, (np.repeat(rows, items.shape[1]), items.ravel()), weights.ravel())
    chances *= shop.available <= day[:, None]
    seen = np.arange(clicks.shape[1]) < counts[:, None]
    chances[np.nonzero(seen)[0], clicks[seen]] = 0
    return chances / chances.sum(axis=1, keepdims=True)

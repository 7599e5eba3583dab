"""The law of the next click, against the docstring written out by hand and against simulation."""

import numpy as np
import pytest

from data.clicks import MIX, Clicks, draw_clicks, next_click
from data.shop import FOLLOW_WEIGHTS, TASTE_WEIGHTS, People, Shop, leaf_weights, next_leaf

NUM_ITEMS, NUM_LEAVES, DAY = 9, 3, 20.0


def tiny_shop() -> Shop:
    """Nine items in three leaves; 0 -> 1 or 4, 1 -> 2 or 5, 4 -> 5 or 2; item 8 comes too late."""
    follow = np.full((NUM_ITEMS, 2), -1)
    follow[0], follow[1], follow[4] = (1, 4), (2, 5), (5, 2)
    rng = np.random.default_rng(5)
    return Shop(
        leaf=np.arange(NUM_ITEMS) % NUM_LEAVES,
        members=np.arange(NUM_ITEMS).reshape(3, 3).T.copy(),
        follow=follow,
        popularity=rng.uniform(0.5, 2, NUM_ITEMS),
        peak=rng.random(NUM_ITEMS),
        available=np.array([0, 0, 0, 0, 0, 0, 0, 10, DAY + 1.0]),
        brand=rng.integers(3, size=NUM_ITEMS),
        price=rng.normal(size=NUM_ITEMS),
    )


PEOPLE = People(
    tastes=np.array([[0, 1, 2], [2, 0, 1]]), brand=np.array([1, 2]), budget=np.array([0.3, -0.5])
)


def by_definition(shop: Shop, user: int, clicks: list[int]) -> list[float]:
    """The docstring of `data.clicks`, item by item."""

    def in_leaf(item: int, leaf: int) -> float:
        row = leaf_weights(shop, PEOPLE, np.array([user]), np.array([leaf]), np.array([DAY]))[0]
        members = shop.members[leaf].tolist()
        return float(row[members.index(item)]) if item in members else 0.0

    chances = []
    for item in range(NUM_ITEMS):
        chance = MIX[4] / NUM_ITEMS
        for back, share in ((1, MIX[0]), (2, MIX[1])):
            if len(clicks) >= back:
                after = shop.follow[clicks[-back]].tolist()
                chance += share * sum(FOLLOW_WEIGHTS[i] for i in range(2) if after[i] == item)
        if clicks:
            chance += MIX[2] * in_leaf(item, int(shop.leaf[clicks[-1]]))
        for weight, leaf in zip(TASTE_WEIGHTS, PEOPLE.tastes[user], strict=True):
            chance += MIX[3] * weight * in_leaf(item, int(leaf))
        fine = item not in clicks and shop.available[item] <= DAY
        chances.append(chance if fine else 0.0)
    return [chance / sum(chances) for chance in chances]


@pytest.mark.parametrize("user", [0, 1])
@pytest.mark.parametrize("clicks", [[], [0], [0, 1], [1, 0], [3, 0, 7], [0, 1, 2, 5]])
def test_next_click_is_the_documented_law(user: int, clicks: list[int]) -> None:
    shop = tiny_shop()
    padded = np.full((1, 6), -1)
    padded[0, : len(clicks)] = clicks
    found = next_click(
        shop, PEOPLE, np.array([user]), padded, np.array([len(clicks)]), np.array([DAY])
    )
    np.testing.assert_allclose(found[0], by_definition(shop, user, clicks), atol=1e-12)


def test_clicks_are_drawn_by_that_law() -> None:
    shop, users = tiny_shop(), np.repeat([0, 1], 20_000)
    days, counts = np.full((len(users), 4), DAY), np.full(len(users), 4)
    clicks = draw_clicks(np.random.default_rng(0), shop, PEOPLE, users, days, counts)
    for step in range(4):
        for user in (0, 1):
            rows = clicks[users == user]
            prefixes, numbers = np.unique(rows[:, :step], axis=0, return_inverse=True)
            for number, prefix in enumerate(prefixes.tolist()):
                after = rows[numbers.ravel() == number, step]
                if len(after) < 400:
                    continue
                found = np.bincount(after, minlength=NUM_ITEMS) / len(after)
                expected = np.array(by_definition(shop, user, prefix))
                error = np.sqrt(expected * (1 - expected) / len(after))
                assert (np.abs(found - expected) <= 5 * error).all(), (user, prefix)


def test_nobody_clicks_twice_and_rows_end_where_they_should() -> None:
    shop, users = tiny_shop(), np.zeros(500, np.int64)
    counts = np.arange(500) % 7
    days = np.full((500, 7), DAY)
    clicks = draw_clicks(np.random.default_rng(0), shop, PEOPLE, users, days, counts)
    for row, count in zip(clicks, counts, strict=True):
        assert (row[:count] >= 0).all()
        assert (row[count:] == -1).all()
        assert len(set(row[:count])) == count
    assert 8 not in clicks  # not available before DAY + 1


def test_clicks_go_to_rows_and_back() -> None:
    counts = np.array([2, 0, 3])
    items = np.array([[4, 5, -1], [-1, -1, -1], [1, 2, 3]])
    days = np.array([[0.1, 0.2, 0], [0, 0, 0], [0.5, 0.6, 0.7]])
    fresh = np.array([[1, 0, 1], [1, 1, 1], [1, 0, 1]], bool)
    block = Clicks.from_padded(items, days, fresh, counts)
    assert block.session.tolist() == [0, 0, 1, 1, 2]
    joined = Clicks.join([block, block])
    assert joined.user.tolist() == [0, 0, 2, 2, 2, 3, 3, 5, 5, 5]
    assert joined.session.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
    back = joined.padded(np.array([5, 3]))
    assert back[0].tolist() == [[1, 2, 3], [4, 5, -1]]
    assert back[1].tolist() == [[0.5, 0.6, 0.7], [0.1, 0.2, 0.0]]
    assert back[2].tolist() == [3, 2]


def test_follow_ups_lie_in_the_next_leaf_of_the_department() -> None:
    shop = Shop.build(np.random.default_rng(1), 410, 100)
    after = next_leaf(len(shop.members))
    ruled = shop.follow[:, 0] >= 0
    assert 0.6 < ruled.mean() < 0.8
    assert (shop.leaf[shop.follow[ruled]] == after[shop.leaf[ruled]][:, None]).all()
    first = shop.follow[ruled, 0]
    assert len(np.unique(first)) == len(first)  # a permutation: no item follows many
    assert (shop.follow[ruled, 0] != shop.follow[ruled, 1]).all()


def test_tastes_are_three_different_leaves() -> None:
    people = People.build(np.random.default_rng(0), 2_000, 4)
    assert all(len(set(row)) == 3 for row in people.tastes.tolist())
    assert np.bincount(people.tastes.ravel(), minlength=4).min() > 1_300


def test_weights_of_a_leaf_leave_out_what_is_not_available_yet() -> None:
    weights = leaf_weights(
        tiny_shop(), PEOPLE, np.array([0, 0]), np.array([2, 2]), np.array([DAY, DAY + 2])
    )
    assert weights[0, 2] == 0  # item 8
    assert weights[1, 2] > 0
    np.testing.assert_allclose(weights.sum(axis=1), 1)

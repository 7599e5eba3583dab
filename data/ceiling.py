"""The best score that any model can reach on the synthetic shop.

Test cases: the last click of each user, given all clicks before it (leave-one-out over
events = ["click"]). Candidates: all items but those the user clicked before.

The oracle knows what no model can: the user's hidden state, the rules, the waves of popularity, and
the time of the click. It ranks by the true probability of the next click (`clicks.next_click`).
No ranking has a higher expected HR@10 or nDCG@10: both are sums over ranks of a weight that falls
with the rank times the probability of the item put there, so the likeliest items must come first.

`expected` is that expectation, averaged over the cases. `realised` is what the oracle scores on the
clicks that really came: a model may by luck be above one of them, not above both by much more than
`standard_error`. Compare a model with `realised`: both then share the luck of the draw.
"""

from typing import Any

import numpy as np

from data.clicks import Clicks, next_click
from data.shop import Floats, People, Shop

K = 10
CELLS = 20_000_000
"""Cases times items held at once."""
MOST_CASES = 10_000
"""Beyond so many users the first ones are measured: users are drawn alike."""


def ceiling(shop: Shop, people: People, clicks: Clicks) -> dict[str, Any]:
    """Content of ceiling.json."""
    cases = min(len(clicks.counts), MOST_CASES)
    size = max(1, CELLS // len(shop.leaf))
    blocks = []
    for first in range(0, cases, size):
        users = np.arange(first, min(first + size, cases))
        blocks.append(oracle(shop, people, clicks, users))
    table = np.concatenate(blocks)  # (cases, 5)
    ruled = table[:, 4] > 0

    def summary(rows: np.ndarray) -> dict[str, Any]:
        names = ("expected_hr@10", "expected_ndcg@10", "realised_hr@10", "realised_ndcg@10")
        return {"cases": int(rows.sum())} | {
            name: round(float(table[rows, column].mean()), 5) if rows.any() else None
            for column, name in enumerate(names)
        }

    return {
        "protocol": {
            "events": ["click"],
            "split": "leave-one-out: the last click of each user",
            "candidates": "all items minus those the user clicked before",
        },
        "all": summary(np.ones(cases, bool)),
        "standard_error_hr@10": round(float(table[:, 2].std() / np.sqrt(cases)), 5),
        "last click has a follow-up": summary(ruled),
        "last click has none": summary(~ruled),
        "definition": (__doc__ or "").strip(),
    }


def oracle(shop: Shop, people: People, clicks: Clicks, users: np.ndarray) -> Floats:
    """(B, 5): expected HR, expected nDCG, realised HR, realised nDCG, follow-up known."""
    items, days, counts = clicks.padded(users)
    rows = np.arange(len(users))
    target, day = items[rows, counts - 1], days[rows, counts - 1]
    chances = next_click(shop, people, users, items, counts - 1, day)
    k = min(K, chances.shape[1])
    best = np.argpartition(-chances, k - 1, axis=1)[:, :k]
    top = np.take_along_axis(chances, best, axis=1)
    order = np.argsort(-top, axis=1, kind="stable")
    top, best = np.take_along_axis(top, order, axis=1), np.take_along_axis(best, order, axis=1)
    discount = 1 / np.log2(np.arange(2, k + 2))
    hits = best == target[:, None]
    follows = shop.follow[items[rows, counts - 2], 0] >= 0
    return np.stack(
        [top.sum(axis=1), top @ discount, hits.any(axis=1), hits @ discount, follows], axis=1
    )

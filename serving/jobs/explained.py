"""Why the first items of every user's list stand there, as a column of a batch job's result.

    explanations: list, one element an explained item, best first, of
        item_id
        proposed   list of {source, rank}: who proposed it, and how high
        events     list of {item_id, share}: what of the history carried it, weightiest first
        features   list of {name, share}: the ranker's reasons, weightiest first
        moves      list of {rule, before, after}: what the policy did

Shares are those of `Recommender.explain` (see `serving.explain`), which asks some ten times for
every user: an explained job takes that much longer.
"""

from typing import Any

import polars as pl

from serving.block import Block
from serving.explain import Explanation
from serving.jobs.population import Population
from serving.recommender import Recommender

SHARES = 5
"""Events and features kept of each item."""


def explanations(recommender: Recommender, asked: Population, count: int) -> pl.Series:
    """The column for the users of `asked`: their first `count` items, fewer where there are."""
    explainer, policy = recommender.explainer(), recommender.policy
    width = min(count, recommender.num_items)
    rows = []
    for user in range(len(asked)):
        one = slice(user, user + 1)
        block = Block.of(asked.histories.take(one), asked.at[one], recommender.num_items)
        explained = explainer.explain(block, policy, width, (), int(asked.unknown[user]))
        rows.append([as_row(item) for item in explained.items])
    raw = recommender.raw_item_ids.dtype
    return pl.Series("explanations", rows, dtype=column_type(raw))


def column_type(raw_id: pl.DataType) -> pl.DataType:
    """The type of the column, whatever is in it."""

    def listed(**fields: Any) -> pl.DataType:
        return pl.List(pl.Struct(fields))

    return listed(
        item_id=raw_id,
        proposed=listed(source=pl.String, rank=pl.Int32),
        events=listed(item_id=raw_id, share=pl.Float32),
        features=listed(name=pl.String, share=pl.Float32),
        moves=listed(rule=pl.String, before=pl.Int32, after=pl.Int32),
    )


def as_row(explanation: Explanation) -> dict[str, Any]:
    """One item as the column has it."""
    return {
        "item_id": explanation.item.item_id,
        "proposed": [{"source": one.source, "rank": one.rank} for one in explanation.proposed],
        "events": [
            {"item_id": one.item_id, "share": one.share} for one in explanation.events[:SHARES]
        ],
        "features": [
            {"name": one.name, "share": one.share} for one in explanation.features[:SHARES]
        ],
        "moves": [
            {"rule": one.rule, "before": one.before, "after": one.after}
            for one in explanation.moves
        ],
    }

"""DARE on made-up clicks whose cause is known: which past event led to which click.

Thirty categories; a click picks a past event, the more recent the likelier, and then an item of its
category, or of the one other category that this one leads to. So the true relevance of an event for
a candidate is affinity x recency, and a search can be held against it.
"""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from offline_eval.probabilities import auc_by_group
from recsys.models.dare import DARE, DAREConfig
from recsys.models.dare_baselines import TWIN
from recsys.models.interest import InterestRanker
from recsys.models.interest_fields import InterestConfig
from recsys.models.interface import Column, HistoryBatch, ItemBatch, RankingBatch

CATEGORIES, PER_CATEGORY, LENGTH, K, DIM = 30, 20, 60, 8, 8
NUM_ITEMS = CATEGORIES * PER_CATEGORY
SIZES = {
    "num_items": NUM_ITEMS,
    "columns": (Column(name="category", kind="category", size=CATEGORIES + 2),),
    "max_len": LENGTH,
    "dim": DIM,
    "top_k": K,
    "num_positions": LENGTH,
}


@dataclass
class Planted:
    """The generator. Category c of 0..29 has the items 20 c + 1 .. 20 c + 20 and the code c + 2."""

    popularity: Tensor
    affinity: Tensor
    decay: Tensor

    @classmethod
    def of(cls, seed: int) -> "Planted":
        draw = torch.Generator().manual_seed(seed)
        popularity = torch.arange(1, CATEGORIES + 1).float() ** -0.6
        affinity = torch.eye(CATEGORIES)
        leads_to = (torch.arange(CATEGORIES) + 1 + torch.randint(0, 29, (30,), generator=draw)) % 30
        affinity[torch.arange(CATEGORIES), leads_to] = 0.3
        age_L = torch.arange(LENGTH - 1, -1, -1).float()
        return cls(popularity / popularity.sum(), affinity, torch.exp(-age_L / 15))

    def items_of(self, categories: Tensor, draw: torch.Generator) -> Tensor:
        inside = torch.randint(1, PER_CATEGORY + 1, categories.shape, generator=draw)
        return categories * PER_CATEGORY + inside

    def batch(self, size: int, draw: torch.Generator) -> RankingBatch:
        history = torch.multinomial(
            self.popularity, size * LENGTH, replacement=True, generator=draw
        ).view(size, LENGTH)
        event = torch.multinomial(self.decay, size, replacement=True, generator=draw)
        cause = history.gather(1, event[:, None]).squeeze(1)
        chosen = torch.multinomial(self.affinity[cause], 1, generator=draw).squeeze(1)
        other = torch.multinomial(self.popularity, size, replacement=True, generator=draw)
        positive = torch.rand(size, generator=draw) < 1 / 3
        target = torch.where(positive, chosen, other)[:, None]
        batch = HistoryBatch(self.items_of(history, draw), attributes={"category": history + 2})
        candidates = ItemBatch(self.items_of(target, draw), {"category": target + 2})
        labels = positive.float()[:, None, None]
        return RankingBatch(batch, candidates, labels, torch.ones_like(labels, dtype=torch.bool))

    def relevance(self, batch: RankingBatch) -> Tensor:
        """(B, L): how much each event speaks for the candidate."""
        history = batch.history.attributes["category"] - 2
        target = batch.candidates.attributes["category"] - 2
        return self.affinity[history, target] * self.decay


def search_ndcg(relevance_BL: Tensor, scores_BL: Tensor) -> float:
    discount = 1 / torch.arange(2, K + 2).float().log2()
    gains = relevance_BL.gather(1, scores_BL.topk(K, dim=1).indices) @ discount
    best = relevance_BL.topk(K, dim=1).values @ discount
    return (gains[best > 0] / best[best > 0]).mean().item()


def measured(model: InterestRanker, planted: Planted, rows: int) -> tuple[float, float]:
    """AUC of the clicks, NDCG@8 of the search."""
    batch = planted.batch(rows, torch.Generator().manual_seed(999))
    model.eval()
    with torch.inference_mode():
        tensors = model.tensors(batch.history, batch.candidates)
        scores = model.relevance(tensors)[:, 0] + tensors["bias"]
        found = model.score(batch.history, batch.candidates)[:, 0, 0].double().numpy()
    labels = batch.labels[:, 0, 0].numpy() > 0
    auc = auc_by_group(labels, found, (labels * 0).astype("int64"))[0][0]
    return float(auc), search_ndcg(planted.relevance(batch), scores[:, :LENGTH])


def trained(model: InterestRanker, planted: Planted, seed: int, steps: int) -> InterestRanker:
    draw = torch.Generator().manual_seed(100 + seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(planted.batch(512, draw)).backward()
        optimizer.step()
    return model


def fresh(kind: type[InterestRanker], seed: int, **options: int) -> InterestRanker:
    torch.manual_seed(seed)
    config = DAREConfig if kind is DARE else InterestConfig
    return kind(config(**SIZES, **options))


def test_the_measures_know_the_truth() -> None:
    planted = Planted.of(1)
    batch = planted.batch(2000, torch.Generator().manual_seed(0))
    relevance = planted.relevance(batch)
    assert search_ndcg(relevance, relevance) == 1
    noise = torch.rand(relevance.shape, generator=torch.Generator().manual_seed(1))
    assert search_ndcg(relevance, noise) == pytest.approx(0.089, abs=0.02)  # specification
    assert search_ndcg(relevance, planted.decay.expand_as(relevance)) == pytest.approx(
        0.222, abs=0.03
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)  # three trainings
@pytest.mark.parametrize("seed", [1, 2])
def test_dare_finds_what_twin_does_not(seed: int) -> None:
    planted = Planted.of(seed)
    dare, twin, half = (
        measured(trained(fresh(kind, seed, **options), planted, seed, 1200), planted, 12_288)
        for kind, options in ((DARE, {}), (TWIN, {}), (DARE, {"attention_dim": DIM // 2}))
    )
    print(f"seed {seed}: DARE {dare}, TWIN {twin}, DARE half width {half}")
    assert dare[1] - twin[1] > 0.08
    assert dare[0] >= twin[0]
    assert abs(half[0] - dare[0]) < 0.002

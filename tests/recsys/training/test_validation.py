import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from features.errors import InputError
from features.store import Dataset
from recsys.models.sasrec import SASRec, SASRecConfig
from recsys.training import validation
from recsys.training.validation import Validation

FABRIC = Fabric(accelerator="cpu", devices=1)


def small_model(seed: int = 0) -> SASRec:
    torch.manual_seed(seed)
    return SASRec(SASRecConfig(num_items=30, max_len=4, dim=8, num_heads=1, dropout=0.5))


@torch.inference_mode()
def scores_by_loops(data: Dataset, model: SASRec) -> tuple[float, float, float]:
    """HR@10, NDCG@10 and MRR@20 with one target a case, by sorting every unseen item."""
    model.eval()
    hits, gains, reciprocals = [], [], []
    for start, cut in zip(data.cuts["start"], data.cuts["validation_start"], strict=True):
        history = data.items[start:cut].tolist()
        state = model(torch.tensor([history[-4:]]))[0, -1]
        scores = {
            item: (state @ model.item.weight[item]).item()
            for item in range(1, 31)
            if item not in history
        }
        longer = sorted(scores, key=lambda item: -scores[item])[:20]
        ranked, target = longer[:10], int(data.items[cut])
        reciprocals.append(1 / (longer.index(target) + 1) if target in longer else 0.0)
        hits.append(target in ranked)
        gains.append(1 / math.log2(ranked.index(target) + 2) if target in ranked else 0.0)
    return float(np.mean(hits)), float(np.mean(gains)), float(np.mean(reciprocals))


@pytest.mark.parametrize("cases_per_block", [1, 7, 1_000])
def test_scores_equal_a_loop_over_users(
    ring: Dataset, monkeypatch: pytest.MonkeyPatch, cases_per_block: int
) -> None:
    monkeypatch.setattr(validation, "BLOCK_BYTES", cases_per_block * 4 * 31)
    model = small_model()
    scores = Validation.of(ring, 1_000, 0, (0, 1)).scores(FABRIC, model)
    assert model.training
    hit_rate, ndcg, mrr = scores_by_loops(ring, model)
    assert scores == pytest.approx({"hit_rate@10": hit_rate, "ndcg@10": ndcg, "mrr@20": mrr})
    assert 0 < hit_rate < 1


def test_cases_are_drawn_and_dealt_out_once(ring: Dataset) -> None:
    parts = [Validation.of(ring, 25, 0, (rank, 3)).cases.users for rank in range(3)]
    drawn = np.concatenate(parts)
    assert len(drawn) == len(set(drawn)) == 25
    assert sorted(drawn) != list(range(25))


def test_a_case_without_a_target_behaviour_does_not_count(
    make_dataset: Callable[..., Dataset],
) -> None:
    # Behaviours go 1 2 1 2 ...; the validation events are rows 2 (code 1) and 7 (code 2)
    data = make_dataset([[1, 2, 3, 4], [5, 6, 7, 8, 9]], behaviours=2)
    model = small_model()
    with torch.no_grad():
        model.item.weight.zero_()
        model.item.weight[3] = 100 * torch.sign(model(torch.tensor([[1, 2]]))[0, -1])
    scores = Validation.of(data, 10, 0, (0, 1)).scores(FABRIC, model)
    assert scores["hit_rate@10"] in (0.0, 1.0)  # one case, not two


def test_a_seen_target_cannot_be_hit(make_dataset: Callable[..., Dataset]) -> None:
    data = make_dataset([[1, 2, 1, 3]])
    scores = Validation.of(data, 10, 0, (0, 1)).scores(FABRIC, small_model())
    assert scores == {"hit_rate@10": 0.0, "ndcg@10": 0.0, "mrr@20": 0.0}


def test_a_seen_target_can_be_hit_where_repeats_are_allowed(
    make_dataset: Callable[..., Dataset],
) -> None:
    data, model = make_dataset([[1, 2, 1, 3]]), small_model()
    with torch.no_grad():
        model.item.weight.zero_()
        model.item.weight[1] = 100 * torch.sign(model(torch.tensor([[1, 2]]))[0, -1])
    assert Validation.of(data, 10, 0, (0, 1)).scores(FABRIC, model)["hit_rate@10"] == 0
    repeated = Validation.of(data, 10, 0, (0, 1), repeats=True).scores(FABRIC, model)
    assert repeated["mrr@20"] == 1


def test_a_case_without_history_does_not_count(make_dataset: Callable[..., Dataset]) -> None:
    data = make_dataset([[1, 2], [3, 4, 5]])  # user 0: nothing before the validation event
    assert Validation.of(data, 10, 0, (0, 1)).cases.users.tolist() == [1]


def test_no_validation_case_is_said(make_dataset: Callable[..., Dataset]) -> None:
    data = make_dataset([[1, 2, 3]])
    empty = Dataset(
        data.path, data.schema, data.manifest, data.items, data.timestamps, data.events,
        {**data.cuts, "validation_end": data.cuts["validation_start"]}, data.item_table,
    )  # fmt: skip
    with pytest.raises(InputError, match="0 validation cases, none with a history"):
        Validation.of(empty, 10, 0, (0, 1))

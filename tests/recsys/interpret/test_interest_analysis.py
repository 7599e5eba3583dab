"""Attention beside information, and gradients of a shared table, on the synthetic shop."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from data.build import build_events
from data.config import Synthetic
from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.errors import InputError
from features.store import Dataset
from recsys.interpret.interest_attention import (
    AttentionSizes,
    field_scores,
    measure_attention,
    write_attention,
)
from recsys.interpret.interest_gradients import (
    compare_gradients,
    observe,
    split,
    tied,
    write_gradients,
)
from recsys.models.dare import DARE
from recsys.models.dare_baselines import TWIN
from recsys.models.interest_fields import InterestConfig
from recsys.training.config import RankingConfig, TrainConfig
from recsys.training.kinds import dataset_facts, model_config
from recsys.training.ranking import RankingTask
from recsys.training.run import load_run, train

SIZES = {"max_len": 20, "dim": 4, "top_k": 4, "hidden": (8, 4), "init": "torch"}
CONFIG = TrainConfig(
    batch_size=64, max_epochs=1, learning_rate=0.01, accelerator="cpu",
    ranking=RankingConfig(targets_per_user=3),
)  # fmt: skip


@dataclass(frozen=True)
class Shop:
    dataset: Path
    run: Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    root = tmp_path_factory.mktemp("shop")
    build_events(Synthetic(num_users=200, num_items=200, clicks_per_user=16), root / "events")
    build_dataset(root / "events", FeatureConfig(split=LeaveOneOut()), root / "dataset")
    train("dare", SIZES | {"fields": ("category",)}, CONFIG, root / "dataset", root / "run")
    return Shop(root / "dataset", root / "run")


def test_the_scores_are_the_models_where_the_item_says_nothing(shop: Shop) -> None:
    data = Dataset.open(shop.dataset)
    model, _, _ = load_run(shop.run)
    assert isinstance(model, DARE)
    task = RankingTask.of(Fabric(accelerator="cpu", devices=1), model, CONFIG, data)
    batch = next(task.batches(0))
    with torch.no_grad():
        model.attention.tables.weight("item").zero_()
        tensors = model.tensors(batch.history, batch.candidates)
        expected = model.attention_scores(tensors)[0].double().numpy()
    codes = np.arange(1, int(data.item_table["category"].max()) + 1)
    found = field_scores(model, "category", codes, 20)
    events = batch.history.items[0][batch.history.items[0] > 0].numpy()
    history, candidates = (
        [row[row > 0] - 1 for row in data.item_table["category"][x]]
        for x in (events, batch.candidates.ids[0].numpy())
    )
    for c, target in enumerate(candidates):  # several values of an item are averaged
        for j, behaviour in enumerate(history):
            table = found[np.ix_(target, behaviour)][..., len(history) - 1 - j]
            assert expected[c, j] == pytest.approx(table.mean(), abs=1e-5)


def test_a_report_of_attention_is_written_and_finds_more_than_chance(
    shop: Shop, tmp_path: Path
) -> None:
    sizes = AttentionSizes(positions=10, values=50, k=5, min_rows=20)
    found = measure_attention(shop.run, shop.dataset, "category", CONFIG.ranking, sizes)
    assert found.information.shape == found.scores.shape == (*[len(found.values)] * 2, 10)
    assert found.information.min() > -1e-9
    np.testing.assert_allclose(found.weights.sum((1, 2)), 1)
    assert found.moments > 50
    assert all(0 < value <= 1 for value in found.ndcg.values())
    own = np.diagonal(found.information, axis1=0, axis2=1).mean()
    assert own > 1.5 * found.information.mean()  # a category speaks for itself in this shop
    shown = write_attention(found, tmp_path / "out", "")
    assert shown in found.values
    content = json.loads((tmp_path / "out/attention.json").read_text())
    assert content["ndcg"] == found.ndcg
    assert shown in (tmp_path / "out/attention.html").read_text()
    with pytest.raises(InputError, match="nothing like it"):
        write_attention(found, tmp_path / "other", "nothing like it")
    with pytest.raises(InputError, match="choose from"):
        measure_attention(shop.run, shop.dataset, "title", CONFIG.ranking, sizes)


def test_two_copies_moved_by_the_sum_of_their_gradients_are_twin(shop: Shop) -> None:
    data = Dataset.open(shop.dataset)
    config = model_config("twin", SIZES, dataset_facts(data))
    assert isinstance(config, InterestConfig)
    torch.manual_seed(0)
    twin = TWIN(config)
    model = tied(config)
    state = twin.state_dict()
    copies = {n.replace("representation", "attention"): x for n, x in state.items()}
    model.load_state_dict(copies | state)
    task = RankingTask.of(Fabric(accelerator="cpu", devices=1), twin, CONFIG, data)
    found = observe(model, task, 0.01, 4)
    optimizer, stream = torch.optim.Adam(twin.parameters(), lr=0.01), task.batches(0)
    twin.train()
    for _ in range(4):
        optimizer.zero_grad()
        twin.loss(next(stream)).backward()
        optimizer.step()
    after = model.state_dict()
    for name, value in twin.representation.state_dict().items():
        assert torch.equal(after[f"attention.{name}"], after[f"representation.{name}"])
        torch.testing.assert_close(after[f"attention.{name}"], value, rtol=1e-3, atol=1e-4)
    assert {one.field for one in found} >= {"item", "category"}
    assert all(len(one.cosine) == 4 and min(one.attention) > 0 for one in found)


def test_a_split_reads_rows_that_either_gradient_touched() -> None:
    ours, theirs = torch.zeros(4, 2), torch.zeros(4, 2)
    ours.grad = torch.tensor([[3.0, 4.0], [0, 0], [0, 0], [1.0, 0]])
    theirs.grad = torch.tensor([[-3.0, -4.0], [0, 2.0], [0, 0], [1.0, 0]])
    norm_ours, norm_theirs, cosine = split(ours, theirs)
    assert norm_ours == pytest.approx((5 + 0 + 1) / 3)
    assert norm_theirs == pytest.approx((5 + 2 + 1) / 3)
    assert cosine == pytest.approx((-1 + 1) / 2)


def test_the_report_of_gradients_is_written(shop: Shop, tmp_path: Path) -> None:
    found = compare_gradients("twin", SIZES, CONFIG, shop.dataset, 3)
    write_gradients(found, tmp_path / "out")
    content = json.loads((tmp_path / "out/gradients.json").read_text())
    assert [one["dominance"] for one in content] == [one.dominance for one in found]
    assert (tmp_path / "out/gradients.html").stat().st_size > 10_000
    with pytest.raises(InputError, match="no tables to tie"):
        compare_gradients("din", SIZES, CONFIG, shop.dataset, 3)

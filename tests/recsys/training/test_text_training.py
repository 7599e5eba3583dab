"""Recformer's training: what is learned of planted text, two stages, and starting from others."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from features.encode import encode_histories
from features.errors import InputError
from features.store import Dataset
from recsys.models.interface import HistoryBatch, Retriever
from recsys.models.recformer import Recformer
from recsys.training.config import TrainConfig
from recsys.training.run import load_retriever, train
from recsys.training.text_config import PretrainingConfig, TwoStageConfig, ZeroShotConfig
from recsys.training.two_stage import Samples
from recsys.training.validation import encode_all_items
from tests.recsys.training import planted_text as shop

SIZES = {"dim": 32, "num_blocks": 2, "num_heads": 2, "hidden": 64, "max_len": 8, "max_tokens": 80}
CONFIG = TrainConfig(batch_size=32, max_epochs=2, learning_rate=2e-3, accelerator="cpu")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return shop.planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def other(planted: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Another domain: other users and titles of the same words, the same tokenizer."""
    tokenizer = str(planted.path / "tokenizer.json")
    return shop.planted(tmp_path_factory.mktemp("other"), seed=1, tokenizer=tokenizer)


def pretraining(*datasets: Dataset, **options: Any) -> PretrainingConfig:
    return PretrainingConfig(datasets=tuple(str(data.path) for data in datasets), **options)


@pytest.fixture(scope="module")
def pretrained(planted: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "run"
    settings = pretraining(planted, epoch_steps=100)
    config = replace(CONFIG, max_epochs=2, learning_rate=3e-3, warmup_steps=20, recformer=settings)
    train("recformer", SIZES, config, planted.path, out)
    return out


def top_of_test(model: Retriever, data: Dataset, k: int) -> np.ndarray:
    """The k best unseen items of every test case, (U, k)."""
    cases = data.cases("test")
    encoded = encode_histories(
        data.histories(cases), model.history_inputs, model.max_len, data.item_table
    )
    with torch.inference_mode():
        items_VD = encode_all_items(model, data, torch.device("cpu"))
        batch = HistoryBatch.of({name: torch.from_numpy(x) for name, x in encoded.items()})
        scores = (model.encode_history(batch) @ items_VD.T).numpy()
    scores[:, 0] = -np.inf
    for row, (start, cut) in enumerate(zip(cases.starts, cases.cuts, strict=True)):
        scores[row, data.items[start:cut]] = -np.inf
    return np.argsort(-scores, axis=1)[:, :k]


def rates(model: Retriever, data: Dataset, k: int) -> tuple[float, float]:
    """Share of test targets among the k best, of warm items and of items training never saw."""
    cases = data.cases("test")
    targets = data.items[cases.cuts]
    hit = (top_of_test(model, data, k) == targets[:, None]).any(1)
    cold = targets > data.schema.num_warm_items
    assert cold.sum() > 40
    assert (~cold).sum() > 40
    return float(hit[~cold].mean()), float(hit[cold].mean())


def test_a_new_item_reaches_the_users_its_text_is_for(planted: Dataset, pretrained: Path) -> None:
    model, _ = load_retriever(pretrained)
    warm, cold = rates(model, planted, 5)
    assert warm > 0.5  # 5 of the 5 items of the cluster that a user has not seen would be 1
    assert cold >= 0.8 * warm


def test_sasrec_does_not_find_new_items(planted: Dataset, tmp_path: Path) -> None:
    config = replace(CONFIG, max_epochs=40, learning_rate=0.01)
    train("sasrec", {"max_len": 8, "dim": 16}, config, planted.path, tmp_path / "run")
    warm, cold = rates(load_retriever(tmp_path / "run")[0], planted, 5)
    assert warm > 0.5
    assert cold < 0.15  # chance: 5 of 96 items


def lines_of(run: Path) -> list[Mapping[str, Any]]:
    kept = []
    for path in sorted(run.rglob("metrics.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            for name in ("seconds", "events_per_second", "tokens_per_second"):
                record.pop(name, None)
            kept.append(record)
    return kept


def test_fine_tuning_keeps_the_weights_that_made_the_item_vectors(
    planted: Dataset, pretrained: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, start_from=str(pretrained), patience=2)
    result = train("recformer", SIZES, config, planted.path, tmp_path / "run")
    model, _ = load_retriever(tmp_path / "run")
    assert isinstance(model, Recformer)
    mine = dict(model.encoder.named_parameters())
    theirs = dict(model.item_encoder.named_parameters())
    assert any(not torch.equal(mine[name], theirs[name]) for name in mine)
    records = lines_of(tmp_path / "run")
    assert result.score == pytest.approx(max(line["ndcg@10"] for line in records), abs=1e-6)
    assert {path.parent.name for path in (tmp_path / "run").rglob("metrics.jsonl")} == {
        "stage-1", "stage-2",
    }  # fmt: skip
    assert all(0 <= line["padding"] <= line["padding_unbucketed"] < 1 for line in records)


def test_the_first_epoch_is_trained_against_the_initial_item_vectors(
    planted: Dataset, pretrained: Path, tmp_path: Path
) -> None:
    once = TwoStageConfig(second_stage=False)
    config = replace(CONFIG, start_from=str(pretrained), max_epochs=1, recformer=once)
    train("recformer", SIZES, config, planted.path, tmp_path / "run")
    before, after = (
        load_file(pretrained / "model.safetensors"),
        load_file(tmp_path / "run" / "model.safetensors"),
    )
    for name, tensor in before.items():
        if name.startswith("encoder."):
            assert torch.equal(after[f"item_{name}"], tensor), name


def test_zero_shot_only_measures(
    planted: Dataset, pretrained: Path, other: Dataset, tmp_path: Path
) -> None:
    config = replace(CONFIG, start_from=str(pretrained), recformer=ZeroShotConfig())
    result = train("recformer", SIZES, config, other.path, tmp_path / "run")
    assert result.step == 0
    before, after = (
        load_file(pretrained / "model.safetensors"),
        load_file(tmp_path / "run" / "model.safetensors"),
    )
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert result.score > 0.3  # the words are the same: chance is about 0.05
    with pytest.raises(InputError, match="start_from is empty"):
        train("recformer", SIZES, replace(config, start_from=""), other.path, tmp_path / "none")


def test_pretraining_mixes_datasets_and_learns_masked_words(
    planted: Dataset, other: Dataset, tmp_path: Path
) -> None:
    settings = pretraining(planted, other, masked_weight=1.0, epoch_steps=4)
    config = replace(CONFIG, max_epochs=6, recformer=settings)
    train("recformer", SIZES, config, planted.path, tmp_path / "run")
    losses = [line["loss"] for line in lines_of(tmp_path / "run")]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 1


def test_datasets_of_another_tokenizer_are_refused(
    planted: Dataset, pretrained: Path, tmp_path: Path
) -> None:
    alien = shop.planted(tmp_path / "alien", tokenizer_size=270)
    config = replace(CONFIG, recformer=pretraining(alien))
    with pytest.raises(InputError, match="of the same tokenizer"):
        train("recformer", SIZES, config, planted.path, tmp_path / "run")
    config = replace(CONFIG, start_from=str(pretrained))
    with pytest.raises(InputError, match="was built with another tokenizer"):
        train("recformer", SIZES, config, alien.path, tmp_path / "run")


def test_weights_that_do_not_fit_are_refused(
    planted: Dataset, pretrained: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, start_from=str(pretrained))
    with pytest.raises(InputError, match=r"give \[model\] the sizes of that run"):
        train("recformer", {**SIZES, "hidden": 32}, config, planted.path, tmp_path / "run")
    missing = replace(config, start_from=str(tmp_path / "none"))
    with pytest.raises(InputError, match="is not a directory"):
        train("recformer", SIZES, missing, planted.path, tmp_path / "run")
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((planted.path / "tokenizer.json").read_bytes())
    save_file({"w": torch.ones(1)}, folder / "model.safetensors")
    published = replace(config, start_from=str(folder))
    with pytest.raises(InputError, match="has none of the tokens"):
        train("recformer", SIZES, published, planted.path, tmp_path / "run")


@pytest.mark.parametrize("empty", [False, True])
def test_samples_are_one_a_user_and_epoch(planted: Dataset, empty: bool) -> None:
    samples = Samples.of(planted, 3, empty_histories=empty)
    seen = [samples.epoch(epoch)[1] - samples.starts for epoch in range(40)]
    places = np.unique(np.concatenate(seen))
    assert places.tolist() == list(range(0 if empty else 1, shop.EVENTS - 2))
    order, targets = samples.epoch(0)
    assert sorted(order.tolist()) == list(range(len(samples)))
    assert np.array_equal(targets, samples.epoch(0)[1])
    batch = samples.history_batch(order[:5], targets, ("tokens", "token_items"), 8)
    assert batch.targets is not None
    assert batch.targets.sum(1).tolist() == planted.items[targets[order[:5]]].tolist()

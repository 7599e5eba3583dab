import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from features.errors import InputError
from features.store import Dataset
from recsys.models.dare import DARE, DAREConfig
from recsys.models.interface import Column
from recsys.training.config import GBCEConfig, RankingConfig, TrainConfig
from recsys.training.examples import held_out_examples
from recsys.training.ranking import RankingTask, figures, predict, probabilities
from recsys.training.run import load_run, train

OPTIONS = {"max_len": 8, "dim": 8, "top_k": 4, "hidden": [16, 8], "init": "torch"}


def model_of(data: Dataset) -> DARE:
    torch.manual_seed(0)
    columns = (Column(name="colour", kind="category", size=4),)
    sizes = {"max_len": 8, "dim": 8, "top_k": 4}
    return DARE(DAREConfig(num_items=data.schema.num_items, columns=columns, **sizes))


def task_of(data: Dataset, **options: object) -> RankingTask:
    config = TrainConfig(**({"batch_size": 16} | options))  # pyright: ignore[reportArgumentType]
    return RankingTask.of(Fabric(accelerator="cpu", devices=1), model_of(data), config, data)


def test_batches_are_a_function_of_the_step(ring: Dataset) -> None:
    task = task_of(ring)
    stream = task.batches(0)
    first = [next(stream) for _ in range(task.steps_per_epoch + 2)]
    again = next(task.batches(task.steps_per_epoch + 1))
    assert torch.equal(first[-1].candidates.ids, again.candidates.ids)
    assert torch.equal(first[-1].history.items, again.history.items)
    assert not torch.equal(first[0].candidates.ids[:, 1:], again.candidates.ids[:, 1:])


def test_an_epoch_shows_every_moment_once(ring: Dataset) -> None:
    task = task_of(ring)
    stream = task.batches(0)
    batches = [next(stream) for _ in range(task.steps_per_epoch)]
    pairs = [
        (tuple(h[h > 0].tolist()), int(c))
        for b in batches
        for h, c in zip(b.history.items, b.candidates.ids[:, 0], strict=True)
    ]
    lengths = ring.cuts["train_end"] - ring.cuts["start"]
    assert len(pairs) == (lengths - 1).sum()
    assert all(target == 1 + history[-1] % 30 for history, target in pairs)  # they walk a ring


def test_a_batch_holds_target_first_and_attributes_of_all(ring: Dataset) -> None:
    batch = next(task_of(ring).batches(0))
    assert batch.labels[:, 0].all()
    assert not batch.labels[:, 1:].any()
    assert torch.equal(batch.known[..., 0], batch.candidates.ids > 0)
    colours = batch.candidates.attributes["colour"]
    assert torch.equal(colours.long(), batch.candidates.ids % 4)


def test_held_out_examples_end_before_their_target_and_are_the_same_each_time(
    ring: Dataset,
) -> None:
    found = held_out_examples(ring, "test", RankingConfig(negatives=5), seed=3)
    again = held_out_examples(ring, "test", RankingConfig(negatives=5), seed=3)
    assert np.array_equal(found.candidates, again.candidates)
    assert np.array_equal(found.moments.rows, ring.cuts["test_start"])
    assert np.array_equal(found.moments.cuts, found.moments.rows)  # validation event included
    for user, items in zip(found.moments.users, found.candidates, strict=True):
        owned = ring.items[ring.cuts["start"][user] : ring.cuts["test_end"][user]]
        late = owned[-1:]
        assert not np.isin(items[1:], late).any()


def test_figures_are_those_of_scikit_learn(ring: Dataset) -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    examples = held_out_examples(ring, "test", RankingConfig(negatives=5), seed=3)
    scores = predict(model_of(ring).eval(), ring, examples, torch.device("cpu"))
    found = figures(examples, scores, ("target",))
    known = examples.known[..., 0]
    labels, values = examples.labels[..., 0][known], scores[..., 0][known].astype(np.float64)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, values))
    assert found["log_loss"] == pytest.approx(log_loss(labels, probabilities(values)), rel=1e-6)
    apart = [roc_auc_score(y[k], s[k]) for y, s, k in
             zip(examples.labels[..., 0], scores[..., 0], known, strict=True)]  # fmt: skip
    assert found["gauc"] == pytest.approx(np.average(apart, weights=known.sum(1)))


def test_predictions_do_not_depend_on_how_they_are_batched(
    ring: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = held_out_examples(ring, "test", RankingConfig(negatives=3), seed=0)
    model = model_of(ring).eval()
    whole = predict(model, ring, examples, torch.device("cpu"))
    monkeypatch.setattr("recsys.training.ranking.CELLS", 1)
    parts = predict(model, ring, examples, torch.device("cpu"))
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-7)


def test_a_ranker_learns_the_ring_resumes_and_loads(ring: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(max_epochs=12, batch_size=32, learning_rate=0.02)
    result = train("dare", OPTIONS, config, ring.path, tmp_path / "run")
    assert result.score > 0.9
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"auc", "gauc", "log_loss"} <= lines[0].keys()
    model, name, _ = load_run(tmp_path / "run")
    assert (name, type(model)) == ("dare", DARE)
    examples = held_out_examples(ring, "validation", config.ranking, config.seed)
    scores = predict(model, ring, examples, torch.device("cpu"))
    assert figures(examples, scores, ("target",))["auc"] == pytest.approx(result.score)


def test_a_retrievers_objective_is_refused(ring: Dataset) -> None:
    with pytest.raises(InputError, match=r"train\.ranking"):
        task_of(ring, objective=GBCEConfig())

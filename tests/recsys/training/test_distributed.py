"""Several ranks train the model that one would, and take over what others began."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from features.errors import InputError
from features.life_build import build_lives
from features.stage import partial_path, write_stage
from features.store import Dataset
from recsys.models import MODELS
from recsys.training.config import TrainConfig
from recsys.training.distributed import RANKS, keep_global_batch, mean_over_ranks, seed_step
from recsys.training.run import load_run
from tests.recsys.outcomes.conftest import LIFE, TRAIN, tables
from tests.recsys.training import planted_text as shop
from tests.recsys.training.conftest import NUM_ITEMS, write_dataset

ROOT = Path(__file__).parents[3]
WORKER = Path(__file__).with_name("ranks_worker.py")
SMALL = {
    "max_len": 6, "dim": 8, "num_blocks": 1, "num_heads": 2, "dropout": 0.0, "hidden": 16,
    "max_tokens": 40, "feed_forward": 16, "window": 7, "features": 16,
}  # fmt: skip
CONFIG = TrainConfig(batch_size=4, max_epochs=2, learning_rate=0.01, accelerator="cpu")


def run_ranks(
    ranks: int, model: str, dataset: Path, out: Path, config: TrainConfig, *, stop: bool = False
) -> int:
    """Train on so many ranks; returns the exit status."""
    known = {field.name for field in fields(MODELS[model].config)}
    if MODELS[model].kind == "ranker":
        known -= {"hidden"}  # several layers there
    told = {
        "model": model,
        "options": {name: value for name, value in SMALL.items() if name in known},
        "train": asdict(config),
        "dataset": str(dataset),
        "out": str(out),
        "stop": stop,
    }
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [sys.executable, *(launcher if ranks > 1 else []), str(WORKER), json.dumps(told)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert stop or done.returncode == 0, done.stderr[-3_000:]
    return done.returncode


def metrics_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "second" not in name} for line in lines]


def assert_alike(run: Path, expected: Path) -> None:
    """The same figures at the same steps, and the same weights, but for the order of sums.

    Not the keys' biases: softmax does not see them, so their gradients are rounding, which Adam
    makes as large as any other.
    """
    mine, theirs = metrics_of(run), metrics_of(expected)
    assert [line["step"] for line in mine] == [line["step"] for line in theirs]
    for one, other in zip(mine, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    one, other = load_run(run)[0].state_dict(), load_run(expected)[0].state_dict()
    for name, value in other.items():
        if name.endswith("query_key_value.bias"):
            width = len(value) // 3
            for weights in (one, other):
                weights[name][width : 2 * width] = 0
        torch.testing.assert_close(one[name], value, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Forty walks of eight steps: every rank's loss is a mean over as many targets."""
    draw = np.random.default_rng(0)
    histories = [
        [int(1 + (first + i) % NUM_ITEMS) for i in range(8)]
        for first in draw.integers(0, NUM_ITEMS, 40)
    ]
    return write_dataset(tmp_path_factory.mktemp("walks") / "dataset", histories)


@pytest.fixture(scope="module")
def alone(walks: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, with the batch of two ranks."""
    out = tmp_path_factory.mktemp("alone") / "run"
    run_ranks(1, "sasrec", walks.path, out, replace(CONFIG, batch_size=8))
    return out


def test_the_mean_leaves_out_what_is_undefined() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    assert mean_over_ranks(fabric, np.array([1.0, math.nan, 0.0])) == 0.5
    assert math.isnan(mean_over_ranks(fabric, np.array([math.nan])))


def test_a_step_is_seeded_by_seed_step_and_rank() -> None:
    def draw(*key: int) -> float:
        seed_step(*key)
        return torch.rand(1).item()

    assert draw(0, 5, 1) == draw(0, 5, 1)
    assert len({draw(0, 5, 1), draw(0, 5, 0), draw(0, 6, 1), draw(1, 5, 1)}) == 4


def test_a_run_keeps_its_global_batch(tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    assert keep_global_batch(fabric, tmp_path, CONFIG) == CONFIG
    (tmp_path / RANKS).write_text('{"ranks": 6}')
    assert keep_global_batch(fabric, tmp_path, CONFIG).batch_size == 24


def test_ranks_that_cannot_share_the_batch_are_refused(tmp_path: Path) -> None:
    class Five(Fabric):
        world_size = 5  # type: ignore[assignment]

    (tmp_path / RANKS).write_text('{"ranks": 3}')
    with pytest.raises(InputError, match=r"began on 3 ranks .* evenly over 5: .*\[1, 2, 3, 4, 6"):
        keep_global_batch(Five(accelerator="cpu", devices=1), tmp_path, CONFIG)


@pytest.mark.timeout(300)
def test_two_ranks_train_like_one_and_one_takes_over(
    walks: Dataset, alone: Path, tmp_path: Path
) -> None:
    assert run_ranks(2, "sasrec", walks.path, tmp_path / "run", CONFIG, stop=True) != 0
    hidden = partial_path(tmp_path / "run")
    first = metrics_of(hidden)
    assert [line["step"] for line in first] == [5]  # of batches of 8: the other ranks' 4 counted
    assert first[0] == pytest.approx(metrics_of(alone)[0], rel=1e-5)
    run_ranks(1, "sasrec", walks.path, tmp_path / "run", CONFIG)
    assert_alike(tmp_path / "run", alone)
    assert not (tmp_path / "run" / RANKS).exists()


@pytest.fixture(scope="module")
def data_of(walks: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """What each kind of model is trained from."""
    folder = tmp_path_factory.mktemp("kinds")
    events, persons, outcomes = tables(120)
    with write_stage(folder / "events", kind="events", config={}, parent="") as directory:
        events.write_parquet(directory / "events.parquet")
        persons.write_parquet(directory / "users.parquet")
        outcomes.write_parquet(directory / "outcomes.parquet")
    build_lives(folder / "events", LIFE, folder / "lives")
    text = shop.planted(tmp_path_factory.mktemp("text"))
    return {"outcome": folder / "lives", "recformer": text.path, "": walks.path}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_goes_on_with_another_number_of_ranks(
    model: str, data_of: Mapping[str, Path], tmp_path: Path
) -> None:
    """Begun on two ranks, killed at the first checkpoint, ended by one; and by two again."""
    dataset = data_of.get(model) or data_of.get(MODELS[model].kind) or data_of[""]
    config = replace(TRAIN, batch_size=16, max_epochs=2, accelerator="cpu")
    if MODELS[model].kind != "outcome":
        config = CONFIG
    ended = {}
    for ranks in (1, 2):
        out = tmp_path / f"on-{ranks}"
        assert run_ranks(2, model, dataset, out, config, stop=True) != 0
        run_ranks(ranks, model, dataset, out, config)
        folders = sorted(path.parent for path in out.rglob("metrics.jsonl"))
        ended[ranks] = [line for folder in folders for line in metrics_of(folder)]
    steps = {ranks: [line["step"] for line in lines] for ranks, lines in ended.items()}
    assert steps[1] == steps[2]
    assert len(steps[1]) >= 2
    losses = [[line["loss"] for line in lines] for lines in ended.values()]
    assert losses[0][0] == losses[1][0]  # by two ranks both: the same draws
    assert losses[0] == pytest.approx(losses[1], rel=0.25)

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from features.errors import InputError
from features.stage import lock, partial_path, read_manifest, verify_files
from features.store import Dataset
from recsys.models.interface import HistoryBatch, ItemBatch
from recsys.training import checkpoint, loop, run
from recsys.training.config import TrainConfig
from recsys.training.run import TrainResult, load_run, train

SIZES = {"max_len": 6, "dim": 8, "num_blocks": 1, "num_heads": 1, "dropout": 0.3}
CONFIG = TrainConfig(batch_size=8, max_epochs=4, learning_rate=0.01, accelerator="cpu")


def train_ring(ring: Dataset, out: Path, config: TrainConfig = CONFIG) -> TrainResult:
    return train("sasrec", SIZES, config, ring.path, out)


def result_of(out: Path) -> tuple[bytes, str, list[dict[str, Any]]]:
    """Everything of a run that must not depend on when it was interrupted."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["events_per_second"]
    weights = (out / "model.safetensors").read_bytes()
    return weights, (out / "result.json").read_text(), lines


@pytest.fixture(scope="module")
def undisturbed(ring: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train_ring(ring, out)
    return out


def test_a_run_is_a_stage_with_a_parent(ring: Dataset, undisturbed: Path) -> None:
    manifest = read_manifest(undisturbed, "run")
    verify_files(undisturbed, manifest)
    assert manifest.parent == ring.manifest.sha256
    names = {name.split("/")[0] for name in manifest.files}
    assert names == {
        "config.json", "metrics.jsonl", "model.safetensors", "result.json", "tensorboard",
    }  # fmt: skip
    steps = [line["step"] for line in result_of(undisturbed)[2]]
    assert steps == [5, 10, 15, 20]  # 40 windows in batches of 8


def test_a_second_run_is_the_same(ring: Dataset, undisturbed: Path, tmp_path: Path) -> None:
    train_ring(ring, tmp_path / "run")
    assert result_of(tmp_path / "run") == result_of(undisturbed)


def test_what_can_be_learned_is_learned(ring: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(batch_size=8, max_epochs=40, learning_rate=0.02, accelerator="cpu")
    result = train("sasrec", {**SIZES, "dropout": 0.0}, config, ring.path, tmp_path / "run")
    model, _, _ = load_run(result.run)
    with torch.inference_mode():
        state = model.encode_history(HistoryBatch(torch.tensor([[3, 4, 5, 6]])))
        scores = state @ model.encode_items(ItemBatch(torch.arange(31))).T
    assert scores.argmax().item() == 7
    assert result.score > 0.9


KILLS: dict[str, tuple[object, str, int]] = {
    "in the second epoch": (loop, "seed_step", 8),
    "before the second checkpoint, the best weights already written": (
        checkpoint.Checkpoints, "save", 2,
    ),
    "while a file is written": (os, "fsync", 4),
    "before the manifest": (run, "write_manifest", 1),
    "before the rename": (run, "publish", 1),
}  # fmt: skip


def killed(train_once: Callable[[], object], target: object, name: str, nth: int) -> None:
    """Run in a child process that kills itself at the nth call of target.name."""
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGKILL
        return
    calls, original = 0, getattr(target, name)

    def counting(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)

    setattr(target, name, counting)
    try:
        train_once()
    finally:
        os._exit(1)


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_run_continues_to_the_same_result(
    moment: str, ring: Dataset, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    killed(lambda: train_ring(ring, out), *KILLS[moment])
    assert not out.exists()
    train_ring(ring, out)
    assert result_of(out) == result_of(undisturbed)
    verify_files(out, read_manifest(out, "run"))
    assert not partial_path(out).exists()


def test_a_finished_run_that_was_not_published_trains_no_further(
    ring: Dataset, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    killed(lambda: train_ring(ring, out), run, "publish", 1)
    monkeypatch.setattr(run, "run_loop", lambda *_: pytest.fail("trained again"))
    train_ring(ring, out)
    assert result_of(out) == result_of(undisturbed)


def test_a_run_continues_from_the_middle_of_an_epoch(
    ring: Dataset, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_PER_CHECKPOINT", 0.0)
    out, steps = tmp_path / "run", []
    killed(lambda: train_ring(ring, out), loop, "seed_step", 9)
    original = loop.seed_step
    monkeypatch.setattr(
        loop, "seed_step", lambda seed, step, rank: (steps.append(step), original(seed, step, rank))
    )
    train_ring(ring, out)
    assert steps == list(range(8, 20))
    assert result_of(out) == result_of(undisturbed)


def test_another_configuration_does_not_continue(
    ring: Dataset, tmp_path: Path, undisturbed: Path
) -> None:
    out = tmp_path / "run"
    other = TrainConfig(batch_size=8, max_epochs=4, learning_rate=0.5, accelerator="cpu")
    killed(lambda: train_ring(ring, out, other), loop, "seed_step", 12)
    train_ring(ring, out)
    assert result_of(out) == result_of(undisturbed)


def test_patience_ends_a_run_and_the_best_weights_are_kept(ring: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(
        batch_size=8, max_epochs=50, learning_rate=0.0, warmup_steps=0, patience=3,
        accelerator="cpu",
    )  # fmt: skip
    result = train_ring(ring, tmp_path / "run", config)
    assert result.step == 5  # nothing moves, so nothing beats the first validation
    assert len(result_of(result.run)[2]) == 4


def test_a_loaded_run_is_the_trained_model(undisturbed: Path) -> None:
    model, name, config = load_run(undisturbed)
    assert (name, config.num_items, config.dim) == ("sasrec", 30, 8)
    assert not model.training


def test_a_damaged_run_is_refused(ring: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_ring(ring, out, TrainConfig(batch_size=40, max_epochs=1, accelerator="cpu"))
    weights = bytearray((out / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (out / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=r"model.safetensors is damaged"):
        load_run(out)


def test_an_existing_run_is_not_overwritten(ring: Dataset, undisturbed: Path) -> None:
    with pytest.raises(InputError, match="exists: choose a new directory"):
        train_ring(ring, undisturbed)


def test_two_writers_of_one_run_are_refused(ring: Dataset, tmp_path: Path) -> None:
    with lock(tmp_path / "run"), pytest.raises(InputError, match="written by another process"):
        train_ring(ring, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("sasrek", {}, r"model.name = 'sasrek' is unknown: choose one of .*sasrec"),
        ("sasrec", {"width": 3}, r"model.width: .* \(found 3\)"),
        ("sasrec", {"dim": "big"}, r"model.dim: .* \(found 'big'\)"),
        ("sasrec", {"dim": 10, "num_heads": 4}, "dim=10 is not a multiple of num_heads=4"),
        ("sasrec", {"num_items": 3}, "num_items is read from the dataset"),
    ],
)
def test_a_wrong_model_section_is_one_sentence(
    name: str, sizes: dict[str, Any], message: str, ring: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(name, sizes, CONFIG, ring.path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_diverging_loss_stops_the_run(ring: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(batch_size=8, max_epochs=3, learning_rate=1e30, accelerator="cpu")
    with pytest.raises(FloatingPointError, match="did the loss diverge"):
        train_ring(ring, tmp_path / "run", config)


def test_training_needs_no_polars() -> None:
    code = (
        "import sys; import recsys.training.run; "
        "unwanted = {'polars', 'dataframely', 'serving', 'data'} & set(sys.modules); "
        "assert not unwanted, unwanted"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(
    ring: Dataset, undisturbed: Path, tmp_path: Path
) -> None:
    """The clock picks the moment, between the start of training and its usual end."""
    started = time.perf_counter()
    train_ring(ring, tmp_path / "timed")
    duration = time.perf_counter() - started
    random, hit = Random(0), 0
    for kill in range(10):
        out = tmp_path / f"killed-{kill}"
        if not (pid := os.fork()):
            train_ring(ring, out)
            os._exit(0)
        time.sleep(random.random() * duration)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        hit += os.WIFSIGNALED(status)
        if out.exists():  # it was whole before the kill came
            verify_files(out, read_manifest(out, "run"))
        else:
            train_ring(ring, out)
        assert result_of(out) == result_of(undisturbed)
    assert hit >= 5, f"only {hit} of 10 kills came in time"

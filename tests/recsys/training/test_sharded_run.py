"""`recsys train` under torchrun with the tables dealt out: one run for any number of ranks."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from features.errors import InputError
from features.stage import partial_path, read_manifest
from features.store import Dataset
from recsys.export.neural import export_neural_ranker
from recsys.models.dare import DARE
from recsys.training.config import ShardConfig, TrainConfig
from recsys.training.run import load_run, train

ROOT = Path(__file__).parents[3]
SIZES = {"max_len": 8, "dim": 4, "top_k": 4, "hidden": [8, 4], "tables": "torchrec"}
CONFIG = """
[data]
source = "synthetic"

[model]
name = "dare"
max_len = 8
dim = 4
top_k = 4
hidden = [8, 4]
init = "torch"
tables = "torchrec"

[train]
batch_size = 8
max_epochs = {epochs}
patience = 1000
accelerator = "cpu"
shard = {{ optimizer = "{optimizer}", learning_rate = 0.1 }}
"""


def start(ranks: int, folder: Path, data: Dataset, out: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), "--no-python"]
    command += [
        str(Path(sys.executable).with_name("recsys")),
        "train",
        str(folder / "dare.toml"),
        "--dataset",
        str(data.path),
    ]
    command += ["--out", str(folder / out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[:3000]
    return output


@pytest.mark.slow
def test_two_ranks_make_a_run_that_exports_as_one_process_would(
    ring: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "dare.toml").write_text(CONFIG.format(epochs=3, optimizer="sgd"))
    printed = finish(start(2, tmp_path, ring, "run"))
    assert printed.count("validation score") == 1
    assert read_manifest(tmp_path / "run", "run").kind == "run"
    left = {path.name for path in (tmp_path / "run").rglob("*")}
    assert not [name for name in left if name.startswith(("shards", "best", "checkpoint"))]
    model, name, config = load_run(tmp_path / "run")
    assert isinstance(model, DARE)
    assert name == "dare"
    plain = DARE(replace(config, tables="torch")).eval()
    plain.load_state_dict(load_file(tmp_path / "run/model.safetensors"))
    for folder, one in (("sharded", model), ("one", plain)):
        (tmp_path / folder).mkdir()
        export_neural_ranker(one, name, ring, tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) >= 5
    for file in files:
        ours, theirs = (tmp_path / folder / file for folder in ("sharded", "one"))
        assert ours.read_bytes() == theirs.read_bytes(), file


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 4])
def test_a_killed_run_of_two_ranks_goes_on_with_any_number(
    ranks: int, ring: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "dare.toml").write_text(CONFIG.format(epochs=400, optimizer="rowwise_adagrad"))
    process = start(2, tmp_path, ring, "run")
    mark = partial_path(tmp_path / "run") / "checkpoint.safetensors"
    for _ in range(600):
        if mark.exists():
            break
        time.sleep(0.2)
    ranks_of_it = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(ranks_of_it) == 2
    for pid in ranks_of_it:
        os.kill(int(pid), signal.SIGKILL)
    process.communicate(timeout=60)  # torchrun gives up
    assert mark.exists()
    before = [json.loads(x) for x in (mark.parent / "metrics.jsonl").read_text().splitlines()]
    finish(start(ranks, tmp_path, ring, "run"))
    after = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(after) > len(before) > 0
    assert after[len(before) - 1]["step"] == before[-1]["step"]  # continued, not begun again
    assert after[-1]["loss"] < before[-1]["loss"]


def test_sharding_without_torchrun_is_one_sentence(ring: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(shard=ShardConfig(), accelerator="cpu", max_epochs=1)
    with pytest.raises(InputError, match="torchrun"):
        train("dare", SIZES, config, ring.path, tmp_path / "run")
    with pytest.raises(InputError, match="sasrec is a retriever"):
        train("sasrec", {}, config, ring.path, tmp_path / "run")


def test_a_gradient_that_is_never_whole_cannot_be_clipped() -> None:
    with pytest.raises(ValueError, match="clip_norm"):
        TrainConfig(shard=ShardConfig(), clip_norm=1.0)

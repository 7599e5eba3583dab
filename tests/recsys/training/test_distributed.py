import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from features.store import Dataset
from recsys.training.distributed import mean_over_ranks, seed_step

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from pathlib import Path
from recsys.training.config import TrainConfig
from recsys.training.run import train

config = TrainConfig(batch_size={batch}, max_epochs=2, learning_rate=0.01, accelerator="cpu")
sizes = {{"max_len": 6, "dim": 8, "num_blocks": 1, "num_heads": 1, "dropout": 0.0}}
train("sasrec", sizes, config, Path(sys.argv[1]), Path(sys.argv[2]))
"""


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


@pytest.mark.slow
def test_two_processes_write_one_run_like_one_process(ring: Dataset, tmp_path: Path) -> None:
    """Batch 4 on each of two ranks sees the events of batch 8 on one, so scores are near."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name, launcher, batch in (
        ("one", [], 8),
        ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"], 4),
    ):
        program = tmp_path / f"{name}.py"
        program.write_text(PROGRAM.format(batch=batch))
        subprocess.run(
            [sys.executable, *launcher, str(program), str(ring.path), str(tmp_path / name)],
            check=True,
            env=environment,
        )
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [line["step"] for line in one] == [line["step"] for line in two] == [5, 10]
    assert two[1]["loss"] == pytest.approx(one[1]["loss"], rel=0.05)

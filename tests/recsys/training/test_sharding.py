"""Tables sharded over processes: the numbers of one process, and checkpoints for any number."""

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from features.errors import InputError
from recsys.models.tables import Backend
from recsys.training.sharding import gathered_weights, saved_blocks, shard

WORKER = Path(__file__).with_name("sharding_worker.py")
_spec = importlib.util.spec_from_file_location("sharding_worker", WORKER)
assert _spec is not None
assert _spec.loader is not None
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, while it loads
    import torchrec
    import torchrec.distributed.embedding  # noqa: F401
worker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(worker)


def torchrun(ranks: int, mode: str, directory: Path) -> list[float]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), str(WORKER), mode, str(directory)]
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((directory / f"losses-{mode}-{ranks}.json").read_text())


def one_process(backend: Backend, steps: int) -> tuple[list[float], torch.nn.Module]:
    model = worker.model_of(backend)
    optimizer = torch.optim.SGD(model.parameters(), lr=worker.RATE)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = model.loss(worker.batch_of(step, 0, 1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], Path]:
    directory = tmp_path_factory.mktemp("sharded")
    return torchrun(2, "start", directory), directory


def test_two_ranks_have_the_losses_of_one_process(two_ranks: tuple[list[float], Path]) -> None:
    expected, model = one_process("torchrec", worker.STEPS)
    assert max(abs(a - b) for a, b in zip(two_ranks[0], expected, strict=True)) < 1e-5
    assert expected[-1] < expected[0] - 0.05  # it does learn
    assert len(list(saved_blocks(two_ranks[1]))) == 8  # four tables, two ranks
    whole = gathered_weights(two_ranks[1])
    state = model.state_dict()
    assert whole.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(whole[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_checkpoint_of_two_ranks_goes_on_with_any_number(
    ranks: int, two_ranks: tuple[list[float], Path]
) -> None:
    expected, _ = one_process("torchrec", 2 * worker.STEPS)
    found = torchrun(ranks, "resume", two_ranks[1])
    assert max(abs(a - b) for a, b in zip(found, expected[50:], strict=True)) < 1e-4


def test_a_model_without_collections_is_refused() -> None:
    model = worker.model_of("torch")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match="torchrec"):
        shard(model, optimizer, tables="sgd", table_rate=0.1, device=torch.device("cpu"))

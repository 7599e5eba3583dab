"""Training throughput on one accelerator (or, saying so, on the CPU): one table.

    python benchmarks/gpu.py

Needs torch, numpy and pyarrow, nothing else: it makes its own data, and runs the models, losses and
batches of the package in a bare loop, so that no logging or validation is timed.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from features.layout import CUTS, EVENTS, ITEMS, USERS, DatasetSchema  # noqa: E402
from features.stage import write_stage  # noqa: E402
from features.store import Dataset, write_table  # noqa: E402
from recsys.models import MODELS  # noqa: E402
from recsys.models.losses import GBCE, FullSoftmax, Objective, SampledSoftmax  # noqa: E402
from recsys.training.batches import TrainingBatches  # noqa: E402

WARM_UP_STEPS = 5


@dataclass(frozen=True)
class Recipe:
    """One row of the table."""

    model: str
    sizes: dict[str, Any]
    objective: str
    batch_size: int = 128
    autocast: bool = False
    windows: str = "last"
    targets: str = "all"
    horizon: int = 1
    seed: int = 0


SMALL = {"max_len": 200, "dim": 64, "num_blocks": 2, "num_heads": 2}
LARGE = {"max_len": 200, "dim": 256, "num_blocks": 4, "num_heads": 4}
RECIPES = (
    Recipe("sasrec", SMALL, "full_softmax"),
    Recipe("sasrec", SMALL, "sampled_softmax"),
    Recipe("sasrec", SMALL, "gbce"),
    Recipe("sasrec", SMALL, "full_softmax", batch_size=1024),
    Recipe("sasrec", SMALL, "sampled_softmax", batch_size=1024),
    Recipe("sasrec", SMALL, "sampled_softmax", batch_size=1024, autocast=True),
    Recipe("sasrec", LARGE, "full_softmax", batch_size=1024),
    Recipe("sasrec", LARGE, "full_softmax", batch_size=1024, autocast=True),
)


def make_dataset(out: Path, num_users: int, num_items: int) -> Dataset:
    """Random walks of log-normal length, on average near MovieLens-1M's 165 events."""
    draw = np.random.default_rng(0)
    length_U = np.clip(draw.lognormal(4.6, 1.0, num_users).astype(np.int64), 5, 2_000)
    ends = np.cumsum(length_U)
    starts, total = ends - length_U, int(ends[-1])
    popularity = 1 / np.arange(1, num_items + 1) ** 0.8
    items = draw.choice(num_items, total, p=popularity / popularity.sum()) + 1
    schema = DatasetSchema(
        num_users=num_users, num_items=num_items, num_warm_items=num_items, num_events=total,
        event_types=("view",), target_events=("view",), cold_targets="keep", item_columns=(),
        title_column="", raw_item_type="int", raw_user_type="int", cutoff=0,
        split={"name": "leave-one-out"},
    )  # fmt: skip
    cuts = (starts, ends - 2, ends - 2, ends - 1, ends - 1, ends)
    with write_stage(out, kind="dataset", config={}, parent="") as directory:
        events = {
            "item_id": items.astype(np.int32),
            "timestamp": np.arange(total) * 1_000_000,
            "event": np.ones(total, np.uint8),
        }
        write_table(directory / EVENTS, events)
        write_table(directory / USERS, dict(zip(CUTS, cuts, strict=True)))
        write_table(directory / ITEMS, {"none": np.zeros(num_items + 1, np.int32)})
        schema.write(directory)
    return Dataset.open(out)


def objective_of(name: str, num_items: int, device: torch.device) -> Objective:
    """The named objective with 256 negatives, drawn once: drawing is not what is timed."""
    sampled = torch.randperm(num_items, device=device)[:256] + 1
    log_count = torch.full((len(sampled),), len(sampled) / num_items, device=device).log()
    known = {
        "full_softmax": FullSoftmax(),
        "sampled_softmax": SampledSoftmax(sampled, log_count),
        "gbce": GBCE(sampled, 0.75),
    }
    return known[name]


def run(recipe: Recipe, data: Dataset, device: torch.device, steps: int) -> tuple[float, ...]:
    """Events a second, milliseconds a step, peak memory in MiB (nan on a CPU), last loss."""
    torch.manual_seed(0)
    entry = MODELS[recipe.model]
    model = entry.model(entry.config(num_items=data.schema.num_items, **recipe.sizes)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    objective = objective_of(recipe.objective, data.schema.num_items, device)
    inputs, max_len = entry.model.history_inputs, recipe.sizes["max_len"]
    batches = TrainingBatches.of(data, recipe, inputs, max_len)
    on_gpu, events, started = device.type == "cuda", 0, 0.0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    loss = torch.zeros(())
    for step, batch in enumerate(islice(batches.from_step(0), steps + WARM_UP_STEPS)):
        if step == WARM_UP_STEPS:
            if on_gpu:
                torch.cuda.synchronize()
            started, events = time.perf_counter(), 0
        assert batch.targets is not None
        events += int((batch.targets > 0).sum())
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.autocast):
            loss = model.loss(batch.to(device), objective)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else float("nan")
    return events / seconds, 1_000 * seconds / steps, peak, loss.item()


def main() -> None:
    """Run every recipe and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=6_000)
    parser.add_argument("--items", type=int, default=3_400)
    parser.add_argument("--steps", type=int, default=0, help="Default: 200 on a GPU, 3 on a CPU.")
    options = parser.parse_args()
    found = torch.cuda.is_available()
    device = torch.device("cuda" if found else "cpu")
    name = torch.cuda.get_device_name() if found else "cpu (no CUDA device found)"
    steps = options.steps or (200 if found else 3)
    print(f"torch {torch.__version__}, {name}, {options.items:,} items, {steps} steps each\n")
    print("| model | dim | loss | batch | precision | device | events/s | ms/step | peak MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = make_dataset(Path(folder) / "dataset", options.users, options.items)
        for recipe in RECIPES:
            speed, milliseconds, peak, loss = run(recipe, data, device, steps)
            assert np.isfinite(loss), f"{recipe} diverged"
            precision = "bf16" if recipe.autocast else "fp32"
            print(
                f"| {recipe.model} | {recipe.sizes['dim']} | {recipe.objective} "
                f"| {recipe.batch_size} | {precision} | {device.type} | {speed:,.0f} "
                f"| {milliseconds:.1f} | {peak:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

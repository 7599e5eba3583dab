"""DTRN beside an MMoE of as many weights: training steps a second, 500 candidates after a history.

    .venv/bin/python benchmarks/multi_task_speed.py

Three behaviours of 50 events, three tasks, an item column, width 16, experts of 64 and 32. Scoring
is the exported graphs through `serving.neural`, one thread, the history's graph included. Processor
time, medians and best over interleaved rounds; the ratios are what counts.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.encode import Histories
from features.layout import CUTS, EVENTS, ITEMS, USERS, DatasetSchema, ItemColumn
from features.stage import write_stage
from features.store import Dataset, write_table
from recsys.export.neural import export_neural_ranker
from recsys.models.dtrn import DTRN, DTRNConfig
from recsys.models.interface import Column, HistoryBatch, ItemBatch, RankingBatch
from recsys.models.multi_task import MultiTask
from recsys.models.task_heads import HeadSizes
from recsys.models.tasks import TaskSpec
from serving.bundle import Bundle
from serving.manifest import Manifest
from serving.neural import NeuralRanker

NUM_ITEMS, LENGTH, CANDIDATES, BATCH, ROUNDS = 10_000, 50, 500, 512, 15
TYPES = ("click", "cart", "buy")
COLUMN = Column(name="category", kind="category", size=200)


def config(hidden: tuple[int, int], **options: Any) -> DTRNConfig:
    """One contestant."""
    return DTRNConfig(
        num_items=NUM_ITEMS,
        event_types=TYPES,
        columns=(COLUMN,),
        tasks=tuple(TaskSpec(name=name, events=(name,)) for name in TYPES),
        max_len=LENGTH,
        head="mmoe",
        sizes=HeadSizes(hidden=hidden, tower=(16,)),
        **options,
    )


def weights(model: MultiTask) -> int:
    """Outside the tables."""
    return sum(p.numel() for p in model.parameters()) - sum(
        p.numel() for p in model.embedding.parameters()
    )


def contestants() -> dict[str, MultiTask]:
    """DTRN, MMoE of the same experts, and MMoE widened to as many weights."""
    plain = {"interest": "shared", "refine": "none"}
    dtrn = DTRN(config((64, 32)))
    width = 64
    while weights(wide := DTRN(config((width, 32), **plain))) < weights(dtrn):
        width += 2
    return {"DTRN": dtrn, "MMoE, same experts": DTRN(config((64, 32), **plain)), "MMoE wide": wide}


def dataset(out: Path) -> Dataset:
    """Just enough of one for the export."""
    draw = np.random.default_rng(0)
    schema = DatasetSchema(
        num_users=1,
        num_items=NUM_ITEMS,
        num_warm_items=NUM_ITEMS,
        num_events=9,
        event_types=TYPES,
        target_events=TYPES,
        cold_targets="keep",
        item_columns=(ItemColumn(name="category", kind="category", size=200),),
        title_column="",
        raw_item_type="int",
        raw_user_type="int",
        cutoff=0,
        split={"name": "leave-one-out"},
    )
    with write_stage(out, kind="dataset", config={}, parent="") as directory:
        write_table(
            directory / EVENTS,
            {
                "item_id": np.arange(1, 10, dtype=np.int32),
                "timestamp": np.arange(9),
                "event": (1 + np.arange(9) % 3).astype(np.uint8),
            },
        )
        write_table(directory / USERS, {name: np.array([0]) for name in CUTS})
        category = draw.integers(2, 200, NUM_ITEMS + 1).astype(np.int32)
        write_table(directory / ITEMS, {"category": category})
        schema.write(directory)
    return Dataset.open(out)


def batch() -> RankingBatch:
    """512 moments of 5 candidates, histories of up to 50 events a behaviour."""
    draw = torch.Generator().manual_seed(0)

    def items(*shape: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        ids = torch.randint(1, NUM_ITEMS + 1, shape, generator=draw)
        return ids, {"category": 2 + ids % 198}

    histories = {code: HistoryBatch(*_history(items(BATCH, LENGTH))) for code in (1, 2, 3)}
    ids, attributes = items(BATCH, 5)
    labels = (torch.rand(BATCH, 5, 3, generator=draw) < 0.3).float()
    whole = HistoryBatch(ids[:, :0], by_behaviour=histories)
    return RankingBatch(whole, ItemBatch(ids, attributes), labels, labels >= 0)


def _history(found: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> tuple[Any, ...]:
    return found[0], None, None, found[1]


def timed(work: Any) -> float:
    """Processor seconds: other jobs of the machine do not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def table(
    models: dict[str, MultiTask],
    training: dict[str, list[float]],
    scoring: dict[str, list[float]],
) -> None:
    """Median and best of each; the ratio of medians to that of the widened MMoE."""
    print("| | weights | training step, ms | ratio | 500 candidates, ms | ratio |")
    print("|---|---|---|---|---|---|")
    base = [statistics.median(x["MMoE wide"]) for x in (training, scoring)]
    for name, model in models.items():
        cells = [name, str(weights(model))]
        for times, wide in zip((training[name], scoring[name]), base, strict=True):
            middle = statistics.median(times)
            cells += [f"{1e3 * middle:.2f} ({1e3 * min(times):.2f})", f"{middle / wide:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print both tables."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    models, some = contestants(), batch()
    optimizers = {n: torch.optim.AdamW(m.parameters(), fused=True) for n, m in models.items()}

    def step(name: str) -> None:
        models[name].train()
        optimizers[name].zero_grad()
        models[name].loss(some).backward()
        optimizers[name].step()

    training: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(ROUNDS + 3):
        for name in models:
            seconds = timed(lambda name=name: step(name))
            if round_ >= 3:
                training[name].append(seconds)
    served, scoring = {}, {name: [] for name in models}
    with tempfile.TemporaryDirectory() as folder:
        data = dataset(Path(folder) / "dataset")
        empty = {"dataset": "", "run": "", "sources": (), "config": {}}
        manifest = Manifest(num_items=NUM_ITEMS, **empty)
        for number, (name, model) in enumerate(models.items()):
            out = Path(folder) / str(number)
            out.mkdir()
            spec = export_neural_ranker(model.eval(), name, data, out)
            served[name] = NeuralRanker.load(Bundle(out, manifest, ""), spec, data.item_table)
        draw = np.random.default_rng(1)
        codes = 1 + np.arange(3 * LENGTH) % 3
        history = Histories.of([draw.integers(1, NUM_ITEMS + 1, 3 * LENGTH)], None, [codes])
        candidates = draw.integers(1, NUM_ITEMS + 1, (1, CANDIDATES))
        for round_ in range(10 * ROUNDS):
            for name, ranker in served.items():
                seconds = timed(lambda ranker=ranker: ranker.log_odds(history, candidates))
                if round_ >= ROUNDS:
                    scoring[name].append(seconds)
    table(models, training, scoring)


if __name__ == "__main__":
    main()

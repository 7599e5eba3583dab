"""Does joint training hurt? Each task alone against jointly, in worlds whose causes are known.

    .venv/bin/python benchmarks/negative_transfer.py WORK --world conflict --seeds 5 --rows 2000

Paired by seed: the same world and rows. A unit of ReLU may be dead from the start; a training that
leaves a task below AUC .55 on validation is started anew, at most seven times, and the best counts:
for every model alike, also for one that fails because its bottom is too narrow. A model is stopped
by the mean AUC of its own tasks on validation rows; figures are AUC on 10,000 test rows. Writes
WORK/<world>-<rows>-<dim>-<hidden>.jsonl, one line a model and seed, and keeps what is there;
`--table` prints the tables of a folder.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from planted_tasks import COLUMNS, World, of_tasks, take
from seed_lines import add_line, interval, lines_of

from offline_eval.probabilities import auc_by_group
from recsys.models.dtrn import DTRN, DTRNConfig
from recsys.models.interface import RankingBatch
from recsys.models.task_heads import HeadSizes
from recsys.models.tasks import TaskSpec

TASKS = ("a", "b")
STARTS, DEAD = 8, 0.55
PLAIN = {"interest": "shared", "refine": "none"}
MODELS = {
    "alone": {"head": "shared_bottom", **PLAIN},
    "shared bottom": {"head": "shared_bottom", **PLAIN},
    "shared bottom + DTRN": {"head": "shared_bottom"},
    "shared bottom + TIM": {"head": "shared_bottom", "refine": "none"},
    "shared bottom + TRM": {"head": "shared_bottom", "interest": "shared"},
    "MMoE": {"head": "mmoe", **PLAIN},
    "MMoE + DTRN": {"head": "mmoe"},
    "PLE": {"head": "ple", **PLAIN},
    "PLE + DTRN": {"head": "ple"},
}


def auc(batch: RankingBatch, scores: torch.Tensor) -> list[float]:
    """Of each task."""
    found = []
    for t in range(scores.shape[-1]):
        known = batch.known[..., t].numpy()
        labels = batch.labels[..., t].numpy()[known] > 0.5
        values = scores[..., t].numpy()[known].astype(np.float64)
        found.append(float(auc_by_group(labels, values, np.zeros(len(values), np.int64))[0][0]))
    return found


@torch.inference_mode()
def scores(model: DTRN, batch: RankingBatch) -> torch.Tensor:
    """Log-odds of all rows."""
    model.eval()
    parts = torch.arange(len(batch.labels)).split(4096)
    found = [model.score(b.history, b.candidates) for b in (take(batch, rows) for rows in parts)]
    model.train()
    return torch.cat(found)


def fitted(
    world: World,
    options: dict,
    parts: list[RankingBatch],
    tasks: tuple[int, ...],
    seed: int,
    args: argparse.Namespace,
) -> list[float]:
    """Test AUC of the tasks; of the best of up to `STARTS` trainings."""
    best, found = -1.0, []
    for start in range(STARTS):
        validation, test = fit(world, options, parts, tasks, seed + 1_000 * start, args)
        if np.mean(validation) > best:
            best, found = float(np.mean(validation)), test
        if min(validation) > DEAD:
            break
    return found


def fit(
    world: World,
    options: dict,
    parts: list[RankingBatch],
    tasks: tuple[int, ...],
    seed: int,
    args: argparse.Namespace,
) -> tuple[list[float], list[float]]:
    """AUC of the tasks on validation and test, of the weights that are best on validation."""
    torch.manual_seed(seed)
    train, validation, test = (of_tasks(part, tasks) for part in parts)
    model = DTRN(
        DTRNConfig(
            num_items=world.num_items,
            event_types=("A", "B"),
            columns=COLUMNS,
            hash_rows=1,  # no item is told from another but by its fields
            tasks=tuple(TaskSpec(name=TASKS[t]) for t in tasks),
            dim=args.dim,
            sizes=HeadSizes(hidden=(args.hidden,), tower=(), experts=2, task_experts=1),
            **options,
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=args.rate)
    draw = torch.Generator().manual_seed(seed)
    best, since = -1.0, 0
    weights: dict[str, torch.Tensor] = {}
    for _ in range(args.epochs):
        for rows in torch.randperm(len(train.labels), generator=draw).split(256):
            optimizer.zero_grad()
            model.loss(take(train, rows)).backward()
            optimizer.step()
        score = float(np.mean(auc(validation, scores(model, validation))))
        since += 1
        if score > best:
            best, since = score, 0
            weights = {name: x.clone() for name, x in model.state_dict().items()}
        if since >= args.patience:
            break
    model.load_state_dict(weights)
    return auc(validation, scores(model, validation)), auc(test, scores(model, test))


def study(args: argparse.Namespace) -> None:
    """Run what is missing."""
    path = args.work / f"{args.world}-{args.rows}-{args.dim}-{args.hidden}.jsonl"
    done = {(x["seed"], x["model"]) for x in lines_of(path)}
    for seed in range(args.seeds):
        world = World.of(args.world, seed, args.items)
        parts = [
            world.rows(10 * seed, args.rows, args.sparse),
            world.rows(10 * seed + 1, 2_000),
            world.rows(10 * seed + 2, 10_000),
        ]
        for name, options in MODELS.items():
            if (seed, name) in done or (args.models and name not in args.models):
                continue
            started = time.monotonic()
            if name == "alone":
                found = [fitted(world, options, parts, (t,), seed, args)[0] for t in (0, 1)]
            else:
                found = fitted(world, options, parts, (0, 1), seed, args)
            line = {"seed": seed, "model": name, "auc": dict(zip(TASKS, found, strict=True))}
            line["seconds"] = round(time.monotonic() - started, 1)
            add_line(path, line)
            print(path.name, json.dumps(line), flush=True)


def table(work: Path) -> None:
    """AUC, and the paired difference from each task alone."""
    for path in sorted(work.glob("*.jsonl")):
        rows = lines_of(path)
        alone = {x["seed"]: x["auc"] for x in rows if x["model"] == "alone"}
        print(f"\n{path.stem} ({len(alone)} seeds)\n\n| model | a | b | a - alone | b - alone |")
        print("|---|---|---|---|---|")
        for name in MODELS:
            mine = {x["seed"]: x["auc"] for x in rows if x["model"] == name}
            both = [seed for seed in mine if seed in alone]
            if not both:
                continue
            means = [f"{np.mean([mine[s][t] for s in both]):.4f}" for t in TASKS]
            gains = [interval([mine[s][t] - alone[s][t] for s in both], signed=True) for t in TASKS]
            print(f"| {name} | {' | '.join(means)} | {' | '.join(gains)} |")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--world", choices=["agree", "conflict"], default="conflict")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--sparse", type=float, default=1.0)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--dim", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e-2)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        table(args.work)
    else:
        study(args)


if __name__ == "__main__":
    main()

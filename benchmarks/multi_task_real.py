"""Heads x bottoms on a real data set: what each task gains, what it costs.

    RECSYS_DATA=... .venv/bin/python benchmarks/multi_task_real.py configs/dtrn-taobao.toml WORK \
        --seeds 3 --minutes 12

Trains every variant with the config's [train_ranker], seed by seed, and measures AUC, GAUC,
log-loss and ECE of each task on the test split. Writes WORK/<config>.jsonl, a line a variant and
seed, and goes on from what is there; stops when the minutes are over. `--table` prints WORK's
tables: means with Student's 95 % intervals over seeds, and differences paired by seed.

The test users and candidates are the same for every variant and seed; the number of users is the
config's `validation_users`. ESMM needs a first task that all others follow from. `--esmm` says that
the config has one; otherwise ESMM alone gets one more, `any`: whether any task's label is 1.
"""

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from seed_lines import add_line, interval, lines_of
from torch.utils.flop_counter import FlopCounterMode

from features.store import Dataset
from recsys.config import read_config
from recsys.models import MODELS
from recsys.models.interface import HistoryBatch, ItemBatch
from recsys.models.multi_task import MultiTask
from recsys.training.examples import held_out_examples
from recsys.training.kinds import dataset_facts, model_config, training_facts
from recsys.training.ranking import figures, predict
from recsys.training.run import load_run, train
from recsys.training.task_config import TaskConfig

CANDIDATES = 500
SHARED = {"interest": "shared", "refine": "none"}
HEADS = {"shared bottom": "shared_bottom", "MMoE": "mmoe", "PLE": "ple", "ESMM": "esmm"}
VARIANTS: dict[str, dict[str, Any]] = {}
for shown, head in HEADS.items():
    VARIANTS[shown] = {"head": head, **SHARED}
    VARIANTS[f"{shown} + DTRN"] = {"head": head}
VARIANTS |= {
    "MMoE + TIM": {"head": "mmoe", "refine": "none"},
    "MMoE + TRM": {"head": "mmoe", "interest": "shared"},
    "MMoE + table": {"head": "mmoe", "interest": "table"},
    "MMoE + loud TIM": {"head": "mmoe", "hyper_std": 0.3},
    "MMoE + separate": {"head": "mmoe", "interest": "separate"},
    "MMoE wide": {"head": "mmoe", **SHARED},
    "alone": {"head": "shared_bottom", **SHARED},
}
FIGURES = ("auc", "gauc", "log_loss", "ece")


def sizes_of(model: MultiTask) -> tuple[int, int]:
    """Weights outside the tables; floating-point operations for one of 500 candidates."""
    tables = sum(p.numel() for p in model.embedding.parameters())
    weights = sum(p.numel() for p in model.parameters()) - tables
    part = HistoryBatch(torch.ones(1, model.max_len, dtype=torch.long), attributes={
        c.name: torch.ones(1, model.max_len, *([c.width] if c.kind == "categories" else []))
        for c in model.config.used
    })  # fmt: skip
    items = torch.ones(1, CANDIDATES, dtype=torch.long)
    attributes = {
        c.name: torch.ones(1, CANDIDATES, *([c.width] if c.kind == "categories" else []))
        for c in model.config.used
    }
    whole = HistoryBatch(items[:, :0], by_behaviour=dict.fromkeys(model.config.codes, part))
    with FlopCounterMode(display=False) as counter:  # it wants gradients on
        model.score(whole, ItemBatch(items, attributes))
    return weights, counter.get_total_flops() // CANDIDATES


def made(options: dict[str, Any], facts: dict[str, Any]) -> MultiTask:
    """An untrained model."""
    model = MODELS["dtrn"].model(model_config("dtrn", options, facts))
    assert isinstance(model, MultiTask)
    return model.eval()


def widened(options: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The shared MMoE whose first layer is so wide that it has as many weights as MMoE + DTRN."""
    plain = {**options, **VARIANTS["MMoE"]}
    wanted = sizes_of(made({**options, **VARIANTS["MMoE + DTRN"]}, facts))[0]
    base = made(plain, facts).config.sizes
    for more in range(0, 2_000, 2):
        hidden = [base.hidden[0] + more, *base.hidden[1:]]
        wide = {**plain, "sizes": {**options.get("sizes", {}), "hidden": hidden}}
        if sizes_of(made(wide, facts))[0] >= wanted:
            return wide
    raise AssertionError("no width is wide enough")


def fit(config: Any, options: dict[str, Any], tasks: Any, dataset: Path, seed: int) -> Any:
    """Figures of one training on the test split, its weights, operations and seconds."""
    ranking = replace(config.train_ranker.ranking, tasks=tasks)
    settings = replace(config.train_ranker, seed=seed, ranking=ranking)
    run = dataset.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    started = time.monotonic()
    result = train("dtrn", options, settings, dataset, run)
    seconds = time.monotonic() - started
    model = load_run(run)[0]
    assert isinstance(model, MultiTask)
    data = Dataset.open(dataset)
    examples = held_out_examples(data, "test", ranking, 0, settings.validation_users)
    found = figures(examples, predict(model, data, examples, torch.device("cpu")), model.tasks)
    if len(model.tasks) == 1:
        found = {f"{name}.{model.tasks[0]}": found[name] for name in FIGURES}
    known = examples.known.sum((0, 1))
    positives = (examples.labels * examples.known).sum((0, 1))
    counts = {task: [int(known[t]), int(positives[t])] for t, task in enumerate(model.tasks)}
    weights, flops = sizes_of(model)
    return found, counts, weights, flops, seconds, result.step


def trainings(
    name: str, tasks: tuple[TaskConfig, ...], *, chained: bool
) -> list[tuple[TaskConfig, ...]]:
    """Tasks of each training of a variant. chained: the first task is one that all others follow
    from; where it is not, ESMM gets such a task in front.
    """
    if name == "alone":
        return [(task,) for task in tasks if not task.among]
    if name.startswith("ESMM") and not chained:
        events = tuple(dict.fromkeys(event for task in tasks for event in task.events))
        return [(TaskConfig(name="any", events=events), *tasks)]
    return [tasks]


def study(args: argparse.Namespace) -> None:
    """Train what is missing, seed by seed."""
    from data.build import build_events
    from features.build import build_dataset

    config = read_config(args.config)
    folder = args.config.stem + (f"-{args.users}-users" if args.users else "")
    root, path = args.work / folder, args.work / f"{folder}.jsonl"
    root.mkdir(parents=True, exist_ok=True)
    dataset = root / "dataset"
    if not dataset.exists():
        build_events(config.data, root / "events")
        features = replace(config.features, users=args.users or config.features.users)
        build_dataset(root / "events", features, dataset)
    given = {k: v for k, v in (config.ranker or {}).items() if k not in ("name", "head")}
    facts = {**dataset_facts(Dataset.open(dataset)), **training_facts(config.train_ranker)}
    done = {(x["seed"], x["variant"]) for x in lines_of(path)}
    until = time.monotonic() + 60 * args.minutes
    tasks = config.train_ranker.ranking.tasks
    for seed in range(args.seeds):
        for name, variant in VARIANTS.items():
            wanted = not args.only or name in args.only
            if not wanted or (seed, name) in done:
                continue
            if time.monotonic() > until:
                return
            options = {**given, **variant}
            if name == "MMoE wide":
                options = widened(given, facts)
            line: dict[str, Any] = {"seed": seed, "variant": name, "figures": {}, "counts": {}}
            line |= {"weights": 0, "flops": 0, "seconds": 0.0, "steps": []}
            for some in trainings(name, tasks, chained=args.esmm):
                found, counts, weights, flops, seconds, step = fit(
                    config, options, some, dataset, seed
                )
                line["figures"] |= {k: v for k, v in found.items() if "." in k}
                line["counts"] |= counts
                line["weights"] += weights
                line["flops"] += flops
                line["seconds"] = round(line["seconds"] + seconds, 1)
                line["steps"].append(step)
            add_line(path, line)
            aucs = {k: round(v, 4) for k, v in line["figures"].items() if k.startswith("auc")}
            print(folder, seed, name, aucs, f"{line['seconds']} s", flush=True)


def table(work: Path) -> None:
    """Every data set: costs, figures of each task, differences of AUC paired by seed."""
    for path in sorted(work.glob("*.jsonl")):
        rows = lines_of(path)
        by_name = {name: [x for x in rows if x["variant"] == name] for name in VARIANTS}
        by_name = {name: mine for name, mine in by_name.items() if mine}
        counts = rows[0]["counts"]
        print(f"\n## {path.stem}\n")
        print("| variant | seeds | step kept | s | weights | kFLOP a candidate |")
        print("|---|---|---|---|---|---|")
        for name, mine in by_name.items():
            steps = np.mean([sum(x["steps"]) for x in mine])
            seconds = np.mean([x["seconds"] for x in mine])
            cost = f"{mine[0]['weights']:,} | {mine[0]['flops'] / 1000:.0f}"
            print(f"| {name} | {len(mine)} | {steps:.0f} | {seconds:.0f} | {cost} |")
        for task, (labels, positives) in counts.items():
            print(f"\n{task}: {positives:,} of {labels:,} test labels are 1.\n")
            print("| variant | AUC | GAUC | log-loss | ECE |\n|---|---|---|---|---|")
            for name, mine in by_name.items():
                values = [[x["figures"].get(f"{f}.{task}") for x in mine] for f in FIGURES]
                if None not in values[0]:
                    cells = [interval(v, d) for v, d in zip(values, (3, 3, 4, 4), strict=True)]
                    print(f"| {name} | {' | '.join(cells)} |")
        paired(rows, list(counts))


def paired(rows: list[dict[str, Any]], tasks: list[str]) -> None:
    """Differences of AUC between variants of one seed."""
    print("\n| AUC, paired by seed | seeds |" + "".join(f" {task} |" for task in tasks))
    print("|---|---|" + "---|" * len(tasks))
    pairs = [(f"{h} + DTRN", h) for h in HEADS]
    pairs += [(v, "MMoE") for v in VARIANTS if v.startswith("MMoE ") and v != "MMoE + DTRN"]
    pairs += [("MMoE + DTRN", v) for v in VARIANTS if v.startswith("MMoE ") and v != "MMoE + DTRN"]
    pairs += [("shared bottom", "alone"), ("MMoE + DTRN", "alone")]
    for one, other in pairs:
        cells, seeds = [], 0
        for task in tasks:
            key = f"auc.{task}"
            first = {x["seed"]: x["figures"].get(key) for x in rows if x["variant"] == one}
            second = {x["seed"]: x["figures"].get(key) for x in rows if x["variant"] == other}
            both = [s for s in first if first[s] is not None and second.get(s) is not None]
            gains = [first[s] - second[s] for s in both]
            cells.append(interval(gains, signed=True) if gains else "")
            seeds = max(seeds, len(both))
        if any(cells):
            print(f"| {one} - {other} | {seeds} | {' | '.join(cells)} |")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--users", type=int, default=0, help="Drawn from the log; 0: all.")
    parser.add_argument("--esmm", action="store_true", help="The first task is a click.")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        table(args.work)
    else:
        study(args)


if __name__ == "__main__":
    main()

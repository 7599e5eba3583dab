"""What DTRN finds in the world whose causes are known: gates, interests, ablations.

    .venv/bin/python benchmarks/planted_gates.py WORK --seeds 1 2 3 --minutes 2.5

World `gates` of `planted_tasks.py`, the specification's section 9. Trains every variant, seed by
seed, and measures on rows it has not seen: the mean gate of task a over that of task b by block,
the cosine of the two tasks' interests in each history, the spread of scales and shifts, AUC beside
that of the true log-odds. Writes WORK/gates-<steps>-<rate>.jsonl, a line a variant and seed, and
goes on from what is there; `--table` prints the tables.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from planted_tasks import COLUMNS, World, take
from seed_lines import add_line, interval, lines_of

from offline_eval.probabilities import auc_by_group
from recsys.models.dtrn import DTRN, DTRNConfig, specialisation
from recsys.models.interface import RankingBatch
from recsys.models.multi_task import MultiTask
from recsys.models.task_heads import HeadSizes
from recsys.models.task_interests import HyperNetwork, Interests
from recsys.models.tasks import TaskSpec

BATCH, ROWS = 384, 60_000
STEPS, RATE = 900, 3e-3
BLOCKS = ("item", "field_1", "field_2", "field_3", "field_4", "kind", "A", "B")
FAST = 10.0
"""Times the learning rate, for the hypernetwork alone."""
VARIANTS: dict[str, dict[str, Any]] = {
    "MMoE + DTRN": {"head": "mmoe"},
    "shared bottom + DTRN": {"head": "shared_bottom"},
    "free table": {"head": "mmoe", "interest": "table"},
    "loud start": {"head": "mmoe", "hyper_std": 0.3},
    "fast hypernetwork": {"head": "mmoe"},
    "without TRM": {"head": "mmoe", "refine": "none"},
    "without TIM": {"head": "mmoe", "interest": "shared"},
    "without both": {"head": "mmoe", "interest": "shared", "refine": "none"},
}


def rates_of(model: DTRN, rate: float, times: float) -> list[dict[str, Any]]:
    """Parameter groups: the hypernetwork learns `times` as fast."""
    own: list[torch.nn.Parameter] = []
    if isinstance(model.interests, Interests):
        conditions = model.interests.conditions
        own = list(conditions.parameters()) if isinstance(conditions, HyperNetwork) else []
    known = {id(p) for p in own}
    rest = [p for p in model.parameters() if id(p) not in known]
    return [{"params": rest, "lr": rate}, {"params": own, "lr": rate * times}]


def train(
    seed: int, *, steps: int = STEPS, rate: float = RATE, times: float = 1.0, **options: Any
) -> tuple[DTRN, World, RankingBatch]:
    """A model after `steps` steps of 384 of 60,000 rows, its world, and 4,000 other rows."""
    world = World.of("gates", seed, 2_000)
    rows, test = world.rows(seed, ROWS), world.rows(100 + seed, 4_000)
    torch.manual_seed(seed)
    model = DTRN(
        DTRNConfig(
            num_items=world.num_items,
            event_types=("A", "B"),
            columns=COLUMNS,
            tasks=(TaskSpec(name="a"), TaskSpec(name="b")),
            hash_rows=1,  # no item is told from another but by its fields
            sizes=HeadSizes(hidden=(32, 16), tower=()),
            **options,
        )
    )
    optimizer = torch.optim.Adam(rates_of(model, rate, times))
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = take(rows, torch.randint(0, ROWS, (BATCH,), generator=draw))
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    return model.eval(), world, test


@torch.inference_mode()
def ratios(model: DTRN, test: RankingBatch) -> dict[str, float]:
    """Mean gate of task a over that of task b, by block; empty without gates."""
    if model.refinement is None:
        return {}
    tensors = model.tensors(test.history, test.candidates)
    plain = MultiTask.representation(model, tensors, tensors["target"])
    gates_TX = model.refinement.gates(plain.flatten(1, 2)).mean(1)
    return dict(zip(BLOCKS, (gates_TX[0] / gates_TX[1]).tolist(), strict=True))


@torch.inference_mode()
def aucs(model: DTRN, test: RankingBatch) -> list[float]:
    """Of each task."""
    scores_BT = model.score(test.history, test.candidates)[:, 0].double().numpy()
    return auc_of(test, scores_BT)


def auc_of(test: RankingBatch, scores_BT: np.ndarray) -> list[float]:
    """Of scores for the one candidate of every row."""
    labels = test.labels[:, 0].numpy() > 0.5
    one = np.zeros(len(labels), np.int64)
    return [float(auc_by_group(labels[:, t], scores_BT[:, t], one)[0][0]) for t in range(2)]


def oracle(world: World, test: RankingBatch) -> list[float]:
    """AUC of the true log-odds. The taste of a history is its most frequent kind."""
    own = world.attributes[test.candidates.ids[:, 0].numpy()]
    match = []
    for history in test.history.by_behaviour.values():
        kinds = world.attributes[history.items.numpy()][..., 4]
        counts = np.stack([(kinds == kind).sum(1) for kind in range(kinds.max() + 1)], 1)
        match.append(counts.argmax(1) == own[:, 4])
    return auc_of(test, world.logits(own, match))


def study(args: argparse.Namespace) -> None:
    """Train what is missing."""
    path = args.work / f"gates-{args.steps}-{args.rate:g}.jsonl"
    done = {(x["seed"], x["variant"]) for x in lines_of(path)}
    until = time.monotonic() + 60 * args.minutes
    for seed in args.seeds:
        for name, options in VARIANTS.items():
            wanted = not args.only or name in args.only
            if not wanted or (seed, name) in done:
                continue
            if time.monotonic() > until:
                return
            times = FAST if name == "fast hypernetwork" else 1.0
            model, world, test = train(
                seed, steps=args.steps, rate=args.rate, times=times, **options
            )
            line = {"seed": seed, "variant": name, "auc": aucs(model, test)}
            line["oracle"] = oracle(world, test)
            line["ratios"] = ratios(model, test)
            line["parted"] = specialisation(model, model.tensors(test.history, test.candidates))
            add_line(path, line)
            print(path.stem, json.dumps(line), flush=True)


def table(work: Path) -> None:
    """Gates by seed; then what parts the tasks, and AUC beside that of the true log-odds of that
    seed, means with Student's 95 % intervals over seeds.
    """
    for path in sorted(work.glob("gates-*.jsonl")):
        rows = lines_of(path)
        print(f"\n## {path.stem}\n\n| variant | seed | {' | '.join(BLOCKS)} |")
        print("|---|---|" + "---|" * len(BLOCKS))
        for name in VARIANTS:
            for line in (x for x in rows if x["variant"] == name and x["ratios"]):
                cells = " | ".join(f"{line['ratios'][block]:.3g}" for block in BLOCKS)
                print(f"| {name} | {line['seed']} | {cells} |")
        shown = ("cosine.1", "cosine.2", "scale_spread", "shift_spread")
        print("\n| variant | seeds | cosine A | cosine B | scale | shift |", end="")
        print(" AUC a | AUC b | a less true | b less true |\n" + "|---" * 10 + "|")
        for name in VARIANTS:
            mine = [x for x in rows if x["variant"] == name]
            if not mine:
                continue
            cells = [interval([x["parted"].get(key, 1.0) for x in mine]) for key in shown]
            cells += [f"{np.mean([x['auc'][t] for x in mine]):.4f}" for t in range(2)]
            cells += [interval([x["auc"][t] - x["oracle"][t] for x in mine]) for t in range(2)]
            print(f"| {name} | {len(mine)} | {' | '.join(cells)} |")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        table(args.work)
    else:
        study(args)


if __name__ == "__main__":
    main()

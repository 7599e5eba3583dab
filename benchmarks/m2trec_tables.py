"""The tables of docs/results/m2trec.md, from what `benchmarks/m2trec_study.py` has made so far.

    python benchmarks/m2trec_tables.py work/m2trec docs/results/m2trec.md

Replaces what stands between the two marks in that file. What is missing is left out, and named.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from m2trec_study import RIVALS, SETS

from features.store import Dataset
from offline_eval.collisions import Collisions
from offline_eval.compare import compare
from offline_eval.report import Report, read_report
from recsys.collisions import collision_report
from recsys.models.attributes import READABLE

BEGIN, END = "<!-- made by m2trec_tables.py -->", "<!-- end -->"
METRICS = ("recall@20", "ndcg@10", "mrr@20")
SUPPORT = "times the target was seen in training"
GROUPS = ("0", "1 to 4", "5 to 9", "10 to 49", "50 or more")
CURVES = {"hit_rate@10": "HR@10", "auc": "AUC"}
"""Of the hits, and of the whole order: where nobody hits, the order still tells who knows what."""


def estimate(report: Report, system: str, metric: str) -> str:
    """A value and its interval."""
    found = next(one for one in report.systems if one.name == system).estimates[metric]
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"


def reports_of(root: Path, name: str, variants: Sequence[str]) -> dict[str, Report]:
    """Those that are there, by variant."""
    at = root / name
    return {
        one: read_report(at / one / "report") for one in variants if (at / one / "report").is_dir()
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def main_table(root: Path, name: str, reports: dict[str, Report]) -> list[str]:
    """All systems, best first, with letters."""
    compared = compare([(one, root / name / one / "report") for one in reports], resamples=1_000)
    rows = []
    for entry in compared.entries:
        own = entry.name in reports
        report = reports[entry.name] if own else next(iter(reports.values()))
        system = "bundle" if own else entry.name
        rows.append([f"**{entry.name}**" if own else entry.name, entry.letters,
                     *(estimate(report, system, metric) for metric in METRICS)])  # fmt: skip
    return table(["system", "", "Recall@20", "NDCG@10", "MRR@20"], rows)


def by_support(report: Report, system: str, metric: str) -> dict[str, tuple[float, int]]:
    """Value and number of targets by group."""
    return {
        cut.group: (cut.estimate.value, cut.targets)
        for cut in report.cuts
        if cut.cut == SUPPORT and cut.system == system and cut.metric == metric
    }


def curve_table(reports: dict[str, Report], metric: str) -> list[str]:
    """A metric by how often training saw the target, and where the models cross."""
    first = next(iter(reports.values()))
    curves = {one: by_support(report, "bundle", metric) for one, report in reports.items()}
    for system in first.systems:
        if system.kind == "baseline":
            curves[system.name] = by_support(first, system.name, metric)
    sizes = next(iter(curves.values()))
    rows = [["targets", *(f"{sizes[group][1]:,}" for group in GROUPS)]]
    rows += [
        [one, *("-" if group not in curve or curve[group][0] != curve[group][0]
                else f"{curve[group][0]:.4f}" for group in GROUPS)]
        for one, curve in curves.items()
    ]  # fmt: skip
    lines = table([f"{CURVES[metric]}, seen in training", *GROUPS], rows)
    for rival in ("sasrec", "gru4rec"):
        if "m2trec" in curves and rival in curves:
            lines.append(crossing(curves["m2trec"], curves[rival], rival))
    return [*lines, ""]


def crossing(ours: dict, theirs: dict, rival: str) -> str:
    """In words, which groups each wins."""
    wins = [g for g in GROUPS if g in ours and ours[g][0] > theirs[g][0]]
    losses = [g for g in GROUPS if g in ours and ours[g][0] < theirs[g][0]]
    if not wins or not losses:
        who = "m2trec" if wins else rival
        return f"Beside {rival}: no crossing, {who} is ahead wherever the two differ.  "
    return (
        f"Beside {rival}: m2trec is ahead at {', '.join(wins)}; {rival} at {', '.join(losses)}.  "
    )


def without_history(data: Dataset, groups: np.ndarray, *, repeats: bool) -> float:
    """Recall@20 where all get one order: groups by training events an item, an item of a group at
    random, the mean of 20 draws. groups: (N,) of items 1..N. Without repeats what a history holds
    is left out. What a model that knows only the groups can do without looking at the history.
    """
    cases, training = data.cases("test"), data.training_histories()
    rows = np.concatenate([np.arange(*p) for p in zip(training.starts, training.ends, strict=True)])
    plays = np.bincount(data.items[rows], minlength=len(groups) + 1)[1:]
    score = (np.bincount(groups, weights=plays) / np.maximum(np.bincount(groups), 1))[groups]
    draw, hits = np.random.default_rng(0), []
    for _ in range(20):
        place = np.empty(len(groups) + 1, np.int64)
        place[1 + np.lexsort((draw.random(len(groups)), -score))] = np.arange(len(groups))
        for start, cut, end in zip(cases.starts, cases.cuts, cases.ends, strict=True):
            seen = place[[] if repeats else np.unique(data.items[start:cut])]
            own = place[data.items[cut:end]]
            ahead = (seen[None] < own[:, None]).sum(1)
            hits.append(((own - ahead < 20) & ~np.isin(own, seen)).mean())
    return float(np.mean(hits))


def steps_to(run: Path, share: float) -> tuple[int, float]:
    """First step with at least `share` of the best validation MRR@20, and that best."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(line["mrr@20"] for line in lines)
    return next(line["step"] for line in lines if line["mrr@20"] >= share * best), best


def ablation_table(root: Path, name: str, reports: dict[str, Report]) -> list[str]:
    """Each variant beside the full model."""
    rows = []
    for variant, report in reports.items():
        rows.append([variant, *(estimate(report, "bundle", metric) for metric in METRICS)])
    return table([f"{name}", "Recall@20", "NDCG@10", "MRR@20"], rows)


def multi_task_table(root: Path, name: str) -> list[str]:
    """With and without category losses, seed by seed."""
    rows = []
    for kind in ("multi", "single"):
        for seed in range(3):
            at = root / name / f"{kind}-{seed}"
            if not (at / "report").is_dir():
                continue
            step, best = steps_to(at / "run", 0.95)
            report = read_report(at / "report")
            rows.append([kind, str(seed), str(step), f"{best:.4f}",
                         estimate(report, "bundle", "ndcg@10"),
                         estimate(report, "bundle", "mrr@20")])  # fmt: skip
    if not rows:
        return []
    head = ["loss", "seed", "steps to 95 % of the best validation MRR@20", "that best"]
    return table([*head, "test NDCG@10", "test MRR@20"], rows)


def section(root: Path, name: str) -> list[str]:
    """Everything of one set."""
    dataset = root / name / "dataset"
    rivals = reports_of(root, name, SETS[name].get("models", RIVALS))
    if not rivals:
        return [f"### {name}", "", "Not run.", ""]
    report, data = next(iter(rivals.values())), Dataset.open(dataset)
    schema, counts = data.schema, report.counts
    units = "sessions" if schema.split["name"] == "session-time" else "users"
    lines = [
        f"### {name}",
        "",
        f"{schema.num_users:,} {units}, "
        f"{schema.num_items:,} items of which training saw {schema.num_warm_items:,}, "
        f"{schema.num_events:,} events; {counts['cases']:,} test cases, "
        f"{counts['cold targets (kept)']:,} with an item that training never saw. Fingerprint "
        f"`{report.fingerprint}`; all items are candidates"
        f"{'' if SETS[name].get('repeats') else ' but those of the history'}.",
        "",
        *main_table(root, name, rivals),
        *(line for metric in CURVES for line in curve_table(rivals, metric)),
    ]
    if missing := [one for one in SETS[name].get("models", RIVALS) if one not in rivals]:
        lines += [f"Not run: {', '.join(missing)}.", ""]
    if read := [c.name for c in schema.item_columns if c.kind in READABLE]:
        told = collision_report(dataset, read, 20, "test")
        lines += ["Collisions: " + "; ".join(" ".join(line.split()) for line in told) + ".", ""]
        items, described = (
            without_history(data, groups, repeats=bool(SETS[name].get("repeats")))
            for groups in (
                np.arange(schema.num_items), Collisions.of(data.item_table, read).groups
            )
        )  # fmt: skip
        lines += [
            f"Recall@20 of one order for all, the most played first: of items {items:.4f}, of "
            f"descriptions {described:.4f} (plays an item that fits, those of one description at "
            "random).",
            "",
        ]
    others = sorted(
        path.name for path in (root / name).iterdir()
        if (path / "report").is_dir() and path.name not in rivals
        and not path.name.startswith(("multi-", "single-"))
    )  # fmt: skip
    if others and "m2trec" in rivals:
        lines += ablation_table(root, name, reports_of(root, name, ("m2trec", *others)))
    return lines + multi_task_table(root, name)


def main() -> None:
    """Fill the file."""
    root, path = Path(sys.argv[1]), Path(sys.argv[2])
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    body = "\n".join(line for name in SETS for line in section(root, name))
    path.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}")


if __name__ == "__main__":
    main()

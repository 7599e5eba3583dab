"""The files that `outcome_studies.py` writes, as tables in a page of results.

    .venv/bin/python benchmarks/outcome_tables.py WORK docs/results/life_events.md

In the page, what stands between `<!-- study: NAME -->` and `<!-- end -->` is replaced by the table
of WORK/NAME/seed-*.json. A cell is the mean over the splits, with the interval of Nadeau & Bengio
(Machine Learning 2003): t s sqrt(1/n + test/train), which allows for splits that share persons. A
difference is that of life_events from the system, split by split, with the same interval.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

MODEL = "life_events"
COLUMNS = {"auc": "AUC", "aul": "AUL", "c_mcc": "C-MCC", "pr_auc": "PR-AUC", "log_loss": "log-loss",
           "ece": "ECE", "tpr": "TPR", "fpr": "FPR"}  # fmt: skip
WITH_INTERVAL = ("auc", "log_loss")
REGION = re.compile(r"(<!-- study: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def digits(value: float) -> str:
    """Three digits without the leading zero."""
    return f"{value:.3f}".replace("0.", ".", 1)


def interval(values: Sequence[float], share: float) -> tuple[float, float]:
    """The mean's 95 % interval; share: test cases for each training case."""
    n = len(values)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) * np.sqrt(1 / n + share))
    mean = float(np.mean(values))
    return mean - half, mean + half


def cell(values: Sequence[float], share: float, *, between: bool) -> str:
    """A mean, where asked with its interval."""
    if any(np.isnan(v) for v in values):
        return ""
    if not between or len(values) < 2:
        return digits(float(np.mean(values)))
    low, high = interval(values, share)
    return f"{digits(float(np.mean(values)))} [{digits(low)}, {digits(high)}]"


def difference(ours: Sequence[float], theirs: Sequence[float], share: float) -> str:
    """The paired gap in AUC and what it says."""
    gaps = np.subtract(ours, theirs)
    if len(gaps) < 2:
        return f"{gaps[0]:+.3f}"
    low, high = interval(list(gaps), share)
    verdict = "better" if low > 0 else "worse" if high < 0 else "not told apart"
    return f"{gaps.mean():+.3f} [{low:+.3f}, {high:+.3f}] {verdict}"


def table(seeds: Sequence[dict[str, Any]]) -> str:
    """Markdown of one study; systems that some seeds lack are compared on the seeds they have."""
    sizes = {(seed["train"], seed["test"]) for seed in seeds}
    share = float(np.mean([test / train for train, test in sizes]))
    prevalence = ", ".join(digits(seed["prevalence"]) for seed in seeds)
    lines = [
        f"{len(seeds)} random splits by person (70/15/15), {seeds[0]['train']:,} cases to train, "
        f"{seeds[0]['test']:,} to test; prevalence among the test cases {prevalence}. "
        f"Means over the splits, 95 % intervals.",
        "",
        "| system | " + " | ".join(COLUMNS.values()) + " | life_events minus this, AUC | splits |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    names = list(dict.fromkeys(name for seed in seeds for name in seed["systems"]))
    best = {n: np.mean([s["systems"][n]["auc"] for s in seeds if n in s["systems"]]) for n in names}
    for name in sorted(names, key=lambda n: -best[n]):
        having = [seed["systems"] for seed in seeds if name in seed["systems"]]
        cells = [
            cell([s[name][figure] for s in having], share, between=figure in WITH_INTERVAL)
            for figure in COLUMNS
        ]
        paired = [(s[MODEL]["auc"], s[name]["auc"]) for s in having if MODEL in s]
        gap = difference(*map(list, zip(*paired, strict=True)), share) if paired else ""
        told = f"**{name}**" if name == MODEL else name
        gap = "" if name == MODEL else gap
        lines.append(f"| {told} | " + " | ".join(cells) + f" | {gap} | {len(having)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("page", type=Path)
    chosen = parser.parse_args()

    def filled(found: re.Match[str]) -> str:
        paths = sorted((chosen.work / found[2]).glob("seed-*.json"))
        if not paths:
            return found[0]
        return found[1] + table([json.loads(path.read_text()) for path in paths]) + found[3]

    text = chosen.page.read_text()
    chosen.page.write_text(REGION.sub(filled, text))


if __name__ == "__main__":
    main()

"""The page of `benchmarks/ranking_study.py`: tables with intervals from its finished runs.

    python benchmarks/ranking_report.py work/ranking-study

Shape suffixes: N candidates, U users, S resamples of users, the first being the data themselves.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_eval.probabilities import auc_by_group
from offline_eval.significance import draw_weights, percentile_interval

SEEDS = (0, 1, 2)
PAPER_OF = {
    "dare": "DARE", "twin": "TWIN", "din": "DIN, top-K", "average_pooling": "average pooling",
    "lightgbm": "LightGBM, as-of features",
    "dare_half": "DARE, attention half as wide",
}  # fmt: skip
RESAMPLES = 300
PAGE = Path(__file__).parents[1] / "docs/results/dare-real-data.md"
HEAD = """# Rankers on real logs

Made by `benchmarks/ranking_study.py` and `benchmarks/ranking_report.py` from `configs/dare-*.toml`;
2 vCPU AMD EPYC, 24 GiB.

Every model learns from the same training moments, is stopped by the same validation moments (the
epoch with the best AUC) and tested on the same test moments; a moment is an event with four items
beside it that were not chosen, drawn by popularity of training. Width 16 a field, the last 200
events, top 20, two epochs at most, Adam .01, batch 128. LightGBM is point-wise, reads the
point-in-time features of `features.asof` (all that there are) and no item id. Users were drawn to
keep a run near a minute, so **absolute values are those of small training sets**; the comparison
within a table is what counts.

Intervals are 95 % by bootstrap over test users and seeds together; *sd* is between seeds. The last
columns are DARE less the row, paired by user and seed; bold where the interval excludes 0.
"""


@dataclass(frozen=True, slots=True)
class Scored:
    """Test scores of one run, with what ties them to users. N candidates of U users."""

    auc: NDArray[np.float64]
    """(S + 1,): of all users, then of each resample of them."""
    gauc: NDArray[np.float64]

    @classmethod
    def of(
        cls, test: Any, scores_RC: NDArray[np.float32], weights_SU: NDArray[np.float64]
    ) -> "Scored":
        """weights: how often each user counts, by resample."""
        labels_N = test["labels"] > 0.5
        scores_N = scores_RC[test["known"]].astype(np.float64)
        _, user_N = np.unique(test["users"], return_inverse=True)
        by_user_U, sizes_U = auc_by_group(labels_N, scores_N, user_N)
        known_U = ~np.isnan(by_user_U)
        parts_SU = (weights_SU * sizes_U)[:, known_U]
        gauc_S = parts_SU @ by_user_U[known_U] / parts_SU.sum(1)
        order = np.argsort(scores_N, kind="stable")
        return cls(
            weighted_auc(labels_N[order], scores_N[order], weights_SU[:, user_N[order]]), gauc_S
        )


def weighted_auc(
    labels_N: NDArray[np.bool_], scores_N: NDArray[np.float64], weights_SN: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUC with weights, (S,), ties at half; scores ascending."""
    ends = np.append(np.flatnonzero(np.diff(scores_N)), len(scores_N) - 1)
    below_SN = np.cumsum(weights_SN * ~labels_N, axis=1)[:, ends]
    above_SN = np.cumsum(weights_SN * labels_N, axis=1)[:, ends]
    hits_SN = np.diff(above_SN, axis=1, prepend=0)
    misses_SN = np.diff(below_SN, axis=1, prepend=0)
    won_S = (hits_SN * (below_SN - misses_SN / 2)).sum(1)
    return won_S / (above_SN[:, -1] * below_SN[:, -1])


def interval(values_S: NDArray[np.float64]) -> str:
    """The figure and its interval; the first value is that of the data themselves."""
    low, high = percentile_interval(values_S[1:])
    return f"{values_S[0]:.4f} [{low:.4f}, {high:.4f}]"


def difference(values_S: NDArray[np.float64]) -> str:
    """Signed, bold where the interval excludes 0."""
    low, high = percentile_interval(values_S[1:])
    text = f"{values_S[0]:+.4f} [{low:+.4f}, {high:+.4f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def measured(folder: Path) -> dict[str, tuple[list[dict[str, Any]], NDArray, NDArray]]:
    """By model: notes of its runs, and AUC and GAUC averaged over seeds, (S + 1,)."""
    test = np.load(folder / "test.npz")
    num_users = len(np.unique(test["users"]))
    stream = np.random.SFC64(0)
    drawn = draw_weights(stream, RESAMPLES * num_users).reshape(RESAMPLES, num_users)
    weights = np.concatenate([np.ones((1, num_users)), drawn]).astype(np.float64)
    seeds = np.random.default_rng(1).integers(0, len(SEEDS), (RESAMPLES, len(SEEDS)))
    found = {}
    for name in PAPER_OF:
        paths = [folder / f"{name}-{seed}.json" for seed in SEEDS]
        if not all(path.exists() for path in paths):
            continue
        runs = [Scored.of(test, np.load(p.with_suffix(".npz"))["scores"], weights) for p in paths]
        means = []
        for values in ([run.auc for run in runs], [run.gauc for run in runs]):
            table = np.stack(values)
            chosen = np.take_along_axis(table[:, 1:].T, seeds, 1).mean(1)
            means.append(np.append(table[:, 0].mean(), chosen))
        found[name] = ([json.loads(path.read_text()) for path in paths], *means)
    return found


def section(folder: Path) -> str:
    """The table of one data set."""
    facts = json.loads((folder / "facts.json").read_text())
    found = measured(folder)
    if "dare" not in found:
        return f"## {folder.name}\n\nNot run to the end."
    fields = ", ".join(["item", *facts["columns"]])
    moments = found["dare"][0][0]["moments"]
    day = facts["ranking"]["simultaneous"] == "hidden"
    hidden = "; events of the target's day are hidden" if day else ""
    lines = [
        f"## {folder.name}", "",
        f"{facts['events']:,} events, {facts['items']:,} items; fields: {fields}. "
        f"{moments:,} training moments; tested on {facts['moments']:,} moments of "
        f"{facts['users']:,} users, median history {facts['median_history']} events. "
        f"Never a negative: what the user chooses {facts['ranking']['reject']}"
        f"{hidden}.",
        "", "| model | AUC | sd | GAUC | sd | DARE less it, AUC | DARE less it, GAUC |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    ours = found["dare"]
    for name, (runs, auc, gauc) in found.items():
        spread = [np.std([run[key] for run in runs], ddof=1) for key in ("auc", "gauc")]
        versus = (
            ["", ""]
            if name == "dare"
            else [difference(ours[i] - x) for i, x in ((1, auc), (2, gauc))]
        )
        lines.append(
            f"| {PAPER_OF[name]} | {interval(auc)} | {spread[0]:.4f} | {interval(gauc)} | "
            f"{spread[1]:.4f} | {versus[0]} | {versus[1]} |"
        )
    if "lightgbm" in found:
        lines += [
            "",
            f"LightGBM's gain comes first from {', '.join(found['lightgbm'][0][0]['features'])}.",
        ]
    return "\n".join(lines)


def main(out: Path) -> None:
    """Write the page from all finished runs."""
    folders = [path.parent for path in sorted(out.glob("*/facts.json"))]
    PAGE.write_text("\n\n".join([HEAD.strip(), *map(section, folders)]) + "\n")
    print(f"{PAGE}: {len(folders)} data sets")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

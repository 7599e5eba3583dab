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
STEPS = 1_000
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
        return cls(resampled_auc(labels_N, scores_N, user_N, weights_SU), gauc_S)


def resampled_auc(
    labels_N: NDArray[np.bool_],
    scores_N: NDArray[np.float64],
    user_N: NDArray[np.int64],
    weights_SU: NDArray[np.float64],
) -> NDArray[np.float64]:
    """AUC of each resample, (S,). Scores are taken in steps of their rank, ties at half.

    A thousand steps move an AUC by less than 1e-5.
    """
    distinct, rank_N = np.unique(scores_N, return_inverse=True)
    step_N = rank_N * STEPS // len(distinct)
    cell_N, size = user_N * STEPS + step_N, weights_SU.shape[1] * STEPS
    hits_SB, misses_SB = (
        weights_SU @ np.bincount(cell_N[chosen_N], minlength=size).reshape(-1, STEPS)
        for chosen_N in (labels_N, ~labels_N)
    )
    won_S = (hits_SB * (np.cumsum(misses_SB, axis=1) - misses_SB / 2)).sum(1)
    return won_S / (hits_SB.sum(1) * misses_SB.sum(1))


def interval(values_S: NDArray[np.float64]) -> str:
    """The figure and its interval; the first value is that of the data themselves."""
    low, high = percentile_interval(values_S[1:])
    return f"{values_S[0]:.4f} [{low:.4f}, {high:.4f}]"


def difference(values_S: NDArray[np.float64]) -> str:
    """Signed, bold where the interval excludes 0."""
    low, high = percentile_interval(values_S[1:])
    text = f"{values_S[0]:+.4f} [{low:+.4f}, {high:+.4f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def measured(folder: Path) -> dict[str, dict[int, Scored]]:
    """What is finished, by model and seed."""
    test = np.load(folder / "test.npz")
    num_users = len(np.unique(test["users"]))
    stream = np.random.SFC64(0)
    drawn = draw_weights(stream, RESAMPLES * num_users).reshape(RESAMPLES, num_users)
    weights = np.concatenate([np.ones((1, num_users)), drawn]).astype(np.float64)
    found: dict[str, dict[int, Scored]] = {}
    for name in PAPER_OF:
        for seed in SEEDS:
            path = folder / f"{name}-{seed}.npz"
            if path.exists():
                found.setdefault(name, {})[seed] = Scored.of(test, np.load(path)["scores"], weights)
    return found


def over_seeds(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over seeds, (S + 1,); each resample of users also draws seeds."""
    table = np.stack(values)
    draw = np.random.default_rng(1)
    seeds = draw.integers(0, len(table), (table.shape[1] - 1, len(table)))
    chosen = np.take_along_axis(table[:, 1:].T, seeds, 1).mean(1)
    return np.append(table[:, 0].mean(), chosen)


def section(folder: Path) -> str:
    """The table of one data set."""
    facts = json.loads((folder / "facts.json").read_text())
    found = measured(folder)
    if "dare" not in found:
        return f"## {folder.name}\n\nNot run to the end."
    fields = ", ".join(["item", *facts["columns"]])
    moments = notes(folder, "dare")["moments"]
    day = facts["ranking"]["simultaneous"] == "hidden"
    hidden = "; events of the target's day are hidden" if day else ""
    lines = [
        f"## {folder.name}", "",
        f"{facts['events']:,} events, {facts['items']:,} items; fields: {fields}. "
        f"{moments:,} training moments; tested on {facts['moments']:,} moments of "
        f"{facts['users']:,} users, median history {facts['median_history']} events. "
        f"Never a negative: what the user chooses {facts['ranking']['reject']}"
        f"{hidden}.",
        "", "| model | seeds | AUC | sd | GAUC | sd | DARE less it, AUC | DARE less it, GAUC |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, runs in found.items():
        cells = [PAPER_OF[name], str(len(runs))]
        versus = []
        for key in ("auc", "gauc"):
            values = [getattr(run, key) for run in runs.values()]
            spread = np.std([x[0] for x in values], ddof=1) if len(values) > 1 else np.nan
            cells += [interval(over_seeds(values)), "-" if np.isnan(spread) else f"{spread:.4f}"]
            both = [
                getattr(found["dare"][seed], key) - getattr(run, key)
                for seed, run in runs.items()
                if seed in found["dare"]
            ]
            versus.append("" if name == "dare" or not both else difference(over_seeds(both)))
        lines.append(f"| {' | '.join([*cells, *versus])} |")
    if "lightgbm" in found:
        best = ", ".join(notes(folder, "lightgbm")["features"])
        lines += ["", f"LightGBM's gain comes first from {best}."]
    return "\n".join(lines)


def notes(folder: Path, name: str) -> dict[str, Any]:
    """What the first finished run of a model tells."""
    path = min(folder.glob(f"{name}-[0-9].json"))
    return json.loads(path.read_text())


def main(out: Path) -> None:
    """Write the page from all finished runs."""
    folders = [path.parent for path in sorted(out.glob("*/facts.json"))]
    PAGE.write_text("\n\n".join([HEAD.strip(), *map(section, folders)]) + "\n")
    print(f"{PAGE}: {len(folders)} data sets")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Probabilities of a ranker's tasks, calibrated on the validation examples it was stopped by."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.optimize import minimize

from features.errors import InputError
from features.store import Dataset
from recsys.training.config import TrainConfig
from recsys.training.examples import held_out_examples
from serving.calibration import Calibration
from serving.neural import NeuralRanker

MIN_LABELS, MIN_OF_KIND = 30, 5
"""Labels, and labels of either kind, below which log-odds are left as they are."""


def training_of(run: Path) -> TrainConfig:
    """How a run was trained. Raises InputError where it does not say."""
    content = json.loads((run / "config.json").read_text())
    if "train" not in content:
        raise InputError(f"{run} does not say what its tasks were: train it again")
    return TypeAdapter(TrainConfig).validate_python(content["train"])


def fit_tasks(
    ranker: NeuralRanker, data: Dataset, train: TrainConfig
) -> tuple[tuple[Calibration, ...], dict[str, Any]]:
    """A slope and an offset of each task's log-odds, and what they were fitted on.

    Where items were drawn beside those of the log, probabilities are of that mixture, not of what a
    user meets; their order and their ratio between users hold.
    """
    examples = held_out_examples(
        data, "validation", train.ranking, train.seed, train.validation_users
    )
    log_odds_RCT = ranker.log_odds(examples.moments.histories(data), examples.candidates)
    fitted, report = [], {}
    for t, task in enumerate(ranker.spec.tasks):
        known_RC = examples.known[..., t]
        labels_N = examples.labels[..., t][known_RC] > 0.5
        found = fit(task, log_odds_RCT[..., t][known_RC].astype(np.float64), labels_N)
        fitted.append(found)
        report[task] = {
            "labels": int(known_RC.sum()),
            "positives": int(labels_N.sum()),
            "slope": found.slope,
            "offset": found.offsets[0],
        }
    return tuple(fitted), report


def fit(task: str, log_odds_N: NDArray[np.float64], labels_N: NDArray[np.bool_]) -> Calibration:
    """Slope and offset by maximum likelihood (Platt), with one nat for a slope of e or 1 / e.

    The offset is free: the mean probability is the share of positives, also where that is 1 in
    1,000.
    """
    count, positives = len(labels_N), int(labels_N.sum())
    if count < MIN_LABELS or min(positives, count - positives) < MIN_OF_KIND:
        return Calibration(name=task, kind="binary", slope=1.0, offsets=(0.0,), persons=0)
    sign_N = np.where(labels_N, 1.0, -1.0)

    def cost(x: NDArray[np.float64]) -> float:
        margin_N = sign_N * (np.exp(x[0]) * log_odds_N + x[1])
        return float(np.logaddexp(0, -margin_N).mean() + x[0] ** 2 / count)

    best = minimize(cost, np.zeros(2), method="L-BFGS-B").x
    return Calibration(
        name=task,
        kind="binary",
        slope=float(np.exp(best[0])),
        offsets=(float(best[1]),),
        persons=count,
    )

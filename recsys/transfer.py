"""Negative transfer: is a task better off alone? Trains both, and tells how their gradients agree.

    out/joint, out/alone-<task>   runs, kept when the same call is repeated
    out/transfer.json             figures of the test split, by task
    out/transfer.html             the same drawn: AUC over time alone and jointly, gradient cosines

A task `among` another has no sample space without it and is not trained alone. Users are resampled
for the interval of the difference in AUC: both models scored the same candidates.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.errors import InputError
from features.store import Dataset
from offline_eval.charts import Series, document, legend, line_chart, told_apart
from offline_eval.probabilities import auc_by_group
from recsys.config import RunConfig
from recsys.models.interface import Ranker
from recsys.task_stops import read_metrics, task_stops
from recsys.training.config import TrainConfig
from recsys.training.examples import Examples, held_out_examples
from recsys.training.ranking import figures, predict
from recsys.training.run import load_run, train

RESAMPLES = 500
FIGURES = ("auc", "gauc", "log_loss", "ece")
KINDS = ("bundle", "stage", "baseline")
"""Colours of the style sheet."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One task, jointly and alone, on the test split."""

    task: str
    joint: Mapping[str, float]
    alone: Mapping[str, float]
    difference: tuple[float, float, float]
    """AUC jointly less alone, and its 95 % interval over users."""

    @property
    def verdict(self) -> str:
        """In a word."""
        _, low, high = self.difference
        return "helped" if low > 0 else "hurt" if high < 0 else "no difference beyond chance"


def transfer_report(config: RunConfig, dataset: Path, out: Path) -> list[Transfer]:
    """Train, measure and draw. Raises InputError for a config without tasks."""
    name, options, training = _settings(config)
    out.mkdir(parents=True, exist_ok=True)
    data = Dataset.open(dataset)
    tasks = training.ranking.tasks
    watched = replace(training, ranking=replace(training.ranking, watch_gradients=True))
    _train_once(name, options, watched, dataset, out / "joint")
    examples = held_out_examples(
        data, "test", training.ranking, training.seed, training.validation_users
    )
    joint, joint_scores = _measure(out / "joint", data, examples)
    found = []
    for t, task in enumerate(tasks):
        if task.among:
            continue
        run = out / f"alone-{task.name}"
        alone_training = replace(training, ranking=replace(training.ranking, tasks=(task,)))
        alone_options = {k: v for k, v in options.items() if k not in ("task_weights", "head")}
        if options.get("head", "mmoe") != "esmm":
            alone_options["head"] = options.get("head", "mmoe")
        else:
            alone_options["head"] = "shared_bottom"
        _train_once(name, alone_options, alone_training, dataset, run)
        mine = Examples(
            examples.moments,
            examples.candidates,
            examples.labels[..., t : t + 1],
            examples.known[..., t : t + 1],
        )
        alone, alone_scores = _measure(run, data, mine)
        difference = auc_difference(mine, joint_scores[..., t], alone_scores[..., 0])
        apart = {key: joint[f"{key}.{task.name}"] for key in FIGURES}
        found.append(Transfer(task.name, apart, {k: alone[k] for k in FIGURES}, difference))
    (out / "transfer.json").write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    (out / "transfer.html").write_text(page(out, found))
    return found


def _settings(config: RunConfig) -> tuple[str, dict[str, Any], TrainConfig]:
    given, training = config.ranker, config.train_ranker
    if given is None:
        given, training = config.model, config.train
    options = dict(given or {})
    name = str(options.pop("name", ""))
    if len([task for task in training.ranking.tasks if not task.among]) < 2:
        raise InputError(
            "the config has fewer than two tasks of everything shown: name them under "
            "[train_ranker.ranking], or under [train.ranking] of a ranker that is the [model]"
        )
    return name, options, training


def _train_once(
    name: str, options: Mapping[str, Any], training: TrainConfig, dataset: Path, run: Path
) -> None:
    """Train, unless `run` is there; one that another call made is refused."""
    if not run.exists():
        train(name, options, training, dataset, run)
        return
    content = json.loads((run / "config.json").read_text())
    wanted = json.loads(json.dumps(asdict(training)))
    same_data = content["dataset"] == Dataset.open(dataset).manifest.sha256
    if content["train"] != wanted or content["model"]["name"] != name or not same_data:
        raise InputError(f"{run} was trained otherwise: delete it, or choose another directory")


def _measure(
    run: Path, data: Dataset, examples: Examples
) -> tuple[dict[str, float], NDArray[np.float32]]:
    model = load_run(run)[0]
    assert isinstance(model, Ranker), "the config's model was trained as a ranker"
    scores_RCT = predict(model, data, examples, torch.device("cpu"))
    return figures(examples, scores_RCT, model.tasks), scores_RCT


def auc_difference(
    examples: Examples, first_RC: NDArray[np.float32], second_RC: NDArray[np.float32]
) -> tuple[float, float, float]:
    """AUC of the first scores less that of the second, and a 95 % interval over users."""
    known_RC = examples.known[..., 0]
    users_RC = np.broadcast_to(examples.moments.users[:, None], known_RC.shape)
    labels_N = examples.labels[..., 0][known_RC] > 0.5
    pair = [x[known_RC].astype(np.float64) for x in (first_RC, second_RC)]
    _, user_N = np.unique(users_RC[known_RC], return_inverse=True)
    order = np.argsort(user_N, kind="stable")
    ends_U = np.cumsum(np.bincount(user_N))
    starts_U = ends_U - np.bincount(user_N)

    def difference(rows: NDArray[np.int64]) -> float:
        one = np.zeros(len(rows), np.int64)
        found = [auc_by_group(labels_N[rows], x[rows], one)[0][0] for x in pair]
        return float(found[0] - found[1])

    draw = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        users = draw.integers(0, len(starts_U), len(starts_U))
        lengths = (ends_U - starts_U)[users]
        before = np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = np.arange(lengths.sum()) - before + np.repeat(starts_U[users], lengths)
        values.append(difference(order[rows]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return difference(order), float(low), float(high)


def page(out: Path, found: list[Transfer]) -> str:
    """The report as one file."""
    joint = read_metrics(out / "joint")
    body = ["<h1>Jointly or alone</h1>", "<table><tr><th>task</th><th>AUC jointly</th>"]
    body[-1] += "<th>AUC alone</th><th>difference</th><th>verdict</th></tr>"
    for one in found:
        middle, low, high = one.difference
        body.append(
            f"<tr><td>{escape(one.task)}</td><td>{one.joint['auc']:.4f}</td>"
            f"<td>{one.alone['auc']:.4f}</td><td>{middle:+.4f} [{low:+.4f}, {high:+.4f}]</td>"
            f"<td>{one.verdict}</td></tr>"
        )
    body.append("</table><p>Intervals: 95 %, users resampled; one seed of training.</p>")
    for one in found:
        alone = read_metrics(out / f"alone-{one.task}")
        lines = [
            _line("jointly", "bundle", joint, f"auc.{one.task}"),
            _line("alone", "baseline", alone, "auc"),
        ]
        body += [f"<h2>{escape(one.task)}: validation AUC over epochs</h2>"]
        body += [line_chart(lines, x="epoch", y="AUC", from_zero=False), legend(lines)]
    body += _cosine_charts(joint)
    body.append("<h2>What the common stop costs each task</h2><table><tr><th>task</th>")
    body[-1] += "<th>best step</th><th>AUC there</th><th>AUC kept</th><th>lost</th></tr>"
    for stop in task_stops(out / "joint"):
        body.append(
            f"<tr><td>{escape(stop.task)}</td><td>{stop.best_step}</td><td>{stop.best:.4f}</td>"
            f"<td>{stop.kept:.4f}</td><td>{stop.lost:.4f}</td></tr>"
        )
    return document("Jointly or alone", [*body, "</table>"])


def _cosine_charts(joint: list[dict[str, float]]) -> list[str]:
    keys = [key for key in joint[0] if key.startswith("cosine.")]
    body = []
    for part in dict.fromkeys(key.split(".")[1] for key in keys):
        mine = [key for key in keys if key.split(".")[1] == part]
        lines = told_apart(
            [
                _line(" and ".join(key.split(".")[2:]), KINDS[i % len(KINDS)], joint, key)
                for i, key in enumerate(mine)
            ]
        )
        body.append(f"<h2>Cosine of the tasks' gradients on the {part}</h2>")
        body += [line_chart(lines, x="epoch", y="cosine", from_zero=False), legend(lines)]
        body.append("<p>Below 0, a step that helps one task hurts the other.</p>")
    return body


def _line(name: str, kind: str, records: list[dict[str, float]], key: str) -> Series:
    points = [(record["epoch"], record[key]) for record in records if key in record]
    return Series(name=name, kind=kind, points=points)

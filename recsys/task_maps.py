"""What a ranker of several tasks looks at: attention, gates and scales, averaged and drawn.

- attention of the candidate to the events of each behaviour by recency, a row a task. With one
  layer the rows of a behaviour are alike by construction: conditioning enters behind the attention
- gates: the mean weight of each field and interest for each task. Only ratios between tasks mean
  something, later layers can rescale
- specialisation: the cosine of two tasks' interests, 1 where conditioning is inert

Shape suffixes: T tasks, G tasks or 1, S behaviours, K ranks of recency, X blocks.
"""

import json
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features.errors import InputError
from features.store import Dataset
from offline_eval.charts import document
from recsys.models.dtrn import DTRN, specialisation
from recsys.models.interface import Tensors
from recsys.models.multi_task import MultiTask
from recsys.models.task_interests import Interests
from recsys.training.config import RankingConfig
from recsys.training.examples import held_out_examples
from recsys.training.run import load_run

MOMENTS = 512
"""Validation moments that are averaged over."""
RANKS = 12
"""Of recency, drawn."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TaskMaps:
    """Averages over validation examples."""

    tasks: tuple[str, ...]
    behaviours: tuple[str, ...]
    attention: list[list[list[float]]]
    """(S, G, 1 + K): on the candidate itself, then by recency, 1 the newest; of moments with at
    least one event of the behaviour."""
    blocks: tuple[str, ...]
    gates: list[list[float]]
    """(T, X); empty without gates."""
    specialisation: dict[str, float]


@torch.inference_mode()
def task_maps(run: Path, dataset: Path) -> TaskMaps:
    """Measure a run on its validation examples. Raises InputError for a model of another kind."""
    model, name, _ = load_run(run)
    if not isinstance(model, MultiTask) or not isinstance(model.interests, Interests):
        raise InputError(
            f"{run} trained {name}: maps are of dtrn and multi_task, with one transformer"
        )
    data = Dataset.open(dataset)
    content = json.loads((run / "config.json").read_text())
    ranking = _ranking(content["train"]["ranking"])
    examples = held_out_examples(data, "validation", ranking, content["train"]["seed"])
    size = len(examples.moments)
    chosen = np.random.default_rng(0).permutation(size)[:MOMENTS]
    batch = examples.take(np.sort(chosen)).batch(data, model)
    tensors = model.tensors(batch.history, batch.candidates)
    names = data.schema.event_types
    behaviours = tuple(names[code - 1] for code in model.config.codes)
    fields = ("item", *(column.name for column in model.config.used))
    found = specialisation(model, tensors)
    told = {
        f"cosine.{names[int(key[7:]) - 1]}" if key.startswith("cosine.") else key: value
        for key, value in found.items()
    }
    return TaskMaps(
        model.tasks,
        behaviours,
        [by_rank.tolist() for by_rank in _attention(model.interests, model, tensors)],
        fields + behaviours,
        _gates(model, tensors),
        told,
    )


def _ranking(content: object) -> RankingConfig:
    from pydantic import TypeAdapter  # noqa: PLC0415 (reading a finished run only)

    return TypeAdapter(RankingConfig).validate_python(content)


def _attention(interests: Interests, model: MultiTask, tensors: Tensors) -> list[Floats]:
    """Of each behaviour (G, 1 + K)."""
    maps = interests.attention_maps(tensors, model.summed(tensors["target"]))
    found = []
    for s, weights in enumerate(maps):  # (B, G, h, C, L + 1)
        valid_BL = tensors[f"bias:{interests.codes[s]}"] == 0
        some_B = valid_BL.any(1)
        mean_BGL = weights.mean((2, 3))
        row_GK = np.zeros((mean_BGL.size(1), 1 + RANKS))
        if some_B.any():
            row_GK[:, 0] = mean_BGL[some_B, :, -1].mean(0).numpy()
            length_B = valid_BL.sum(1)
            for rank in range(1, RANKS + 1):
                reach_B = length_B >= rank
                if reach_B.any():
                    place_B = (length_B - rank)[reach_B]
                    at = mean_BGL[reach_B].gather(2, place_B[:, None, None].expand(
                        -1, mean_BGL.size(1), 1))  # fmt: skip
                    row_GK[:, rank] = at[..., 0].mean(0).numpy()
        found.append(row_GK)
    return found


def _gates(model: MultiTask, tensors: Tensors) -> list[list[float]]:
    if not isinstance(model, DTRN) or model.refinement is None:
        return []
    plain_GBCW = MultiTask.representation(model, tensors, tensors["target"])
    gates_TNX = model.refinement.gates(plain_GBCW.flatten(1, 2))
    if model.refinement.element:
        gates_TNX = gates_TNX.unflatten(-1, (model.blocks, -1)).mean(-1)
    return gates_TNX.mean(1).tolist()


def write_maps(run: Path, dataset: Path, out: Path) -> TaskMaps:
    """Measure and draw a page at `out`, with the numbers beside it as JSON."""
    found = task_maps(run, dataset)
    out.with_suffix(".json").write_text(json.dumps(asdict(found), indent=1) + "\n")
    out.write_text(page(found))
    return found


def page(found: TaskMaps) -> str:
    """Tables whose cells are shaded by their value."""
    body = ["<h1>What each task looks at</h1>"]
    body.append(
        "<p>Attention of the candidate, mean over heads and examples. With one layer all tasks "
        "share a behaviour's attention; with more they part from the second layer on.</p>"
    )
    head = ["", "itself", *(str(rank) for rank in range(1, RANKS + 1))]
    for s, behaviour in enumerate(found.behaviours):
        rows = found.attention[s]
        names = found.tasks if len(rows) > 1 else ("all tasks",)
        body.append(f"<h2>{escape(behaviour)}: by recency, 1 is the newest event</h2>")
        body.append(_table(head, list(zip(names, rows, strict=True)), top=None))
    if found.gates:
        body.append("<h2>Gates: mean weight of each field and interest</h2>")
        rows = list(zip(found.tasks, found.gates, strict=True))
        body.append(_table(["", *found.blocks], rows, top=2.0))
        body.append("<p>1 leaves a block as it is. Compare tasks, not blocks.</p>")
    body.append("<h2>Do the tasks part?</h2><table>")
    body += [
        f"<tr><td>{escape(name)}</td><td>{value:.4f}</td></tr>"
        for name, value in found.specialisation.items()
    ]
    body.append("</table><p>Cosine of two tasks' interests: at 1, conditioning does nothing.</p>")
    return document("What each task looks at", body)


def _table(head: list[str], rows: list[tuple[str, list[float]]], *, top: float | None) -> str:
    most = top or max([value for _, row in rows for value in row] + [1e-9])
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [f"<table><tr>{cells}</tr>"]
    for name, row in rows:
        shaded = "".join(
            f'<td style="background:rgba(51,102,204,{min(value / most, 1) * 0.7:.2f})">'
            f"{value:.3f}</td>"
            for value in row
        )
        lines.append(f"<tr><td>{escape(name)}</td>{shaded}</tr>")
    return "".join([*lines, "</table>"])

"""Who moves the embeddings of a ranker that shares one table: attention, or representation?

DARE's analysis (arXiv 2410.02604, Sec. 2.2): the one table is kept twice, with equal values, once
for attention and once for representation. After each backward pass the gradient of either copy is
read, and their sum is what both are moved by, so that the two stay one model: TWIN. Two figures a
table, over the rows that a step touched:

    norm       mean length of a row's gradient; the greater one dominates
    conflict   share of steps whose mean cosine between the two gradients is negative

Dominance is generic; conflict is a property of the data, and may not be there at all.
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import TypeAdapter
from torch import Tensor

from features.errors import InputError
from features.store import Dataset
from recsys.models.dare import DARE, DAREConfig
from recsys.training.config import TrainConfig
from recsys.training.kinds import dataset_facts, model_config
from recsys.training.ranking import RankingTask

FIRST = 100
"""Steps over which the reference averages norms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableGradients:
    """What moved one table. Lists by step."""

    field: str
    attention: tuple[float, ...]
    """Mean norm of a touched row's gradient from attention."""
    representation: tuple[float, ...]
    cosine: tuple[float, ...]
    """Mean over touched rows that both moved."""

    @property
    def dominance(self) -> float:
        """Representation's norm over attention's, means over the first 100 steps."""
        own = np.mean(self.attention[:FIRST])
        return float(np.mean(self.representation[:FIRST]) / max(own, 1e-30))

    @property
    def conflict(self) -> float:
        """Share of steps with a negative cosine."""
        return float(np.mean(np.array(self.cosine) < 0))


def tied(config: Any) -> DARE:
    """DARE whose two table sets start equal."""
    known = {f.name: getattr(config, f.name) for f in fields(DAREConfig) if hasattr(config, f.name)}
    sizes: Any = TypeAdapter(DAREConfig).validate_python(known | {"attention_dim": None})
    model = DARE(sizes)
    model.attention.load_state_dict(model.representation.state_dict())
    return model


def compare_gradients(
    model_name: str, options: dict[str, Any], config: TrainConfig, dataset: Path, steps: int
) -> list[TableGradients]:
    """Train a shared table for some steps. Raises InputError for a model without one.

    options: the model's fields, as in a config; those of DARE are taken with tied tables.
    """
    if model_name not in ("dare", "twin"):
        raise InputError(f"model {model_name!r} has no tables to tie: choose dare or twin")
    data = Dataset.open(dataset)
    sizes = model_config(model_name, options, dataset_facts(data))
    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(config.seed)
    model = tied(replace(sizes, tables="torch"))
    task = RankingTask.of(fabric, model, config, data)
    return observe(model, task, config.learning_rate, steps)


def observe(
    model: DARE, task: RankingTask, learning_rate: float, steps: int
) -> list[TableGradients]:
    """Train the tied copies by Adam; they stay equal, bit for bit."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    pairs = tables_of(model)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in pairs}
    stream = task.batches(0)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(next(stream)).backward()
        for name, (ours, theirs) in pairs.items():
            found[name].append(split(ours, theirs))
        for ours, theirs in shared_parameters(model):
            total = sum_of(ours.grad, theirs.grad)
            ours.grad, theirs.grad = total, None if total is None else total.clone()
        optimizer.step()
    return [as_table(name, values) for name, values in found.items()]


def tables_of(model: DARE) -> dict[str, tuple[Tensor, Tensor]]:
    """Weights of both copies by field."""
    names = ["item", *(f"column_{i}" for i in range(len(model.attention.columns)))]
    fields = ["item", *(column.name for column in model.attention.columns)]
    copies = (model.attention.tables, model.representation.tables)
    return {
        field: (copies[0].weight(name), copies[1].weight(name))
        for field, name in zip(fields, names, strict=True)
    }


def shared_parameters(model: DARE) -> list[tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """Both copies of everything that TWIN has once, the time table among it."""
    ours, theirs = (dict(x.named_parameters()) for x in (model.attention, model.representation))
    return [(ours[name], theirs[name]) for name in ours]


def sum_of(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Their sum; either may be missing."""
    if first is None or second is None:
        return second if first is None else first
    return first + second


def split(ours: Tensor, theirs: Tensor) -> tuple[float, float, float]:
    """Mean row norms of attention and representation, and their mean cosine, of one step."""
    gradient_ND = [torch.zeros_like(w) if w.grad is None else w.grad for w in (ours, theirs)]
    norm_N = [gradient.norm(dim=1) for gradient in gradient_ND]
    touched_N = (norm_N[0] > 0) | (norm_N[1] > 0)
    both_N = (norm_N[0] > 0) & (norm_N[1] > 0)
    product_N = (gradient_ND[0] * gradient_ND[1]).sum(1)[both_N]
    cosine_N = product_N / (norm_N[0] * norm_N[1])[both_N]
    means = [float(norm[touched_N].mean()) if touched_N.any() else 0.0 for norm in norm_N]
    return means[0], means[1], float(cosine_N.mean()) if both_N.any() else 0.0


def as_table(field: str, values: list[tuple[float, float, float]]) -> TableGradients:
    """The steps of one table."""
    attention, representation, cosine = zip(*values, strict=True)
    return TableGradients(
        field=field, attention=attention, representation=representation, cosine=cosine
    )


def write_gradients(found: list[TableGradients], out: Path) -> None:
    """Write gradients.json and gradients.html (norms and cosines by step) into `out`."""
    from plotly.graph_objects import Scatter  # noqa: PLC0415 - half a second, for this alone
    from plotly.subplots import make_subplots  # noqa: PLC0415

    out.mkdir(parents=True)
    content = [
        asdict(one) | {"dominance": one.dominance, "conflict": one.conflict} for one in found
    ]
    (out / "gradients.json").write_text(json.dumps(content))
    titles = [f"{one.field}: {what}" for one in found for what in ("row norms", "cosine")]
    figure = make_subplots(rows=len(found), cols=2, subplot_titles=titles)
    for row, one in enumerate(found, 1):
        lines = (("attention", 1), ("representation", 1), ("cosine", 2))
        for name, column in lines:
            line = Scatter(y=getattr(one, name), name=name, showlegend=row == 1)
            figure.add_trace(line, row=row, col=column)
        figure.update_yaxes(type="log", row=row, col=1)
    figure.update_xaxes(title_text="step")
    figure.update_layout(title="Gradients of a shared table", height=120 + 280 * len(found))
    figure.write_html(out / "gradients.html", include_plotlyjs=True)

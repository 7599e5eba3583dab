"""Do the tasks pull the shared weights the same way? Cosines of the tasks' gradients.

Negative: a step that helps one task hurts the other (Yu et al., NeurIPS 2020, call it conflict).
Measured on the same few training batches every time, so that a course over time is comparable.

Shape suffixes: T tasks, P weights of a part.
"""

from collections.abc import Iterator
from itertools import combinations, islice

import torch
from torch import Tensor

from recsys.models.interface import RankingBatch
from recsys.models.multi_task import MultiTask

BATCHES = 4
"""Whose gradients are added up."""


def task_gradients(model: MultiTask, batch: RankingBatch) -> dict[str, Tensor]:
    """Of every shared part of the model, the gradient of each task's loss, (T, P)."""
    parts = model.shared_parameters()
    losses_T, _ = model.task_losses(batch)
    found: dict[str, list[Tensor]] = {name: [] for name in parts}
    for loss in losses_T.unbind():
        for name, parameters in parts.items():
            grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            flat = [
                (torch.zeros_like(p) if g is None else g).flatten()
                for p, g in zip(parameters, grads, strict=True)
            ]
            found[name].append(torch.cat(flat))
    return {name: torch.stack(rows) for name, rows in found.items()}


def cosines_of(
    model: MultiTask, batches: Iterator[RankingBatch], device: torch.device
) -> dict[str, float]:
    """`cosine.<part>.<task>.<task>` of the gradients over the first batches; 0 for a gradient of 0.

    The model's weights, gradients and mode stay as they were.
    """
    total: dict[str, Tensor] = {}
    with torch.enable_grad():
        for batch in islice(batches, BATCHES):
            for name, rows_TP in task_gradients(model, batch.to(device)).items():
                total[name] = total.get(name, torch.zeros_like(rows_TP)) + rows_TP
    found = {}
    for part, rows_TP in total.items():
        for a, b in combinations(range(len(model.tasks)), 2):
            cosine = torch.cosine_similarity(rows_TP[a], rows_TP[b], 0)
            found[f"cosine.{part}.{model.tasks[a]}.{model.tasks[b]}"] = float(cosine)
    return found

"""How many items of a dataset share their attributes, and the bound that puts on a recall."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.errors import InputError
from features.layout import Split
from features.store import Dataset
from offline_eval.collisions import Collisions


def collision_report(dataset: Path, columns: Sequence[str], k: int, split: Split) -> list[str]:
    """Lines to print. columns: encoded item columns; empty takes all. Raises InputError."""
    data = Dataset.open(dataset)
    known = [column.name for column in data.schema.item_columns]
    if unknown := [name for name in columns if name not in known]:
        raise InputError(f"{dataset} has no item columns {unknown}: it has {known}")
    if not known:
        raise InputError(f"{dataset} encodes no item columns: all its items are alike")
    names = list(columns) or known
    found = Collisions.of(data.item_table, names)
    cases = data.cases(split)
    rows = [np.arange(*part) for part in zip(cases.cuts.tolist(), cases.ends.tolist(), strict=True)]
    targets = data.items[np.concatenate(rows)] if rows else np.zeros(0, np.int64)
    codes = [data.schema.event_types.index(name) + 1 for name in data.schema.target_events]
    if rows:
        targets = targets[np.isin(data.events[np.concatenate(rows)], codes)]
    bound = found.recall_bound(targets.astype(np.int64), k) if len(targets) else float("nan")
    total = len(found.groups)
    return [
        f"columns    {', '.join(names)}",
        f"items      {total:,}, of {found.num_distinct:,} different descriptions",
        f"sharing    {found.num_sharing:,} items ({found.num_sharing / total:.1%}) are described "
        f"as another one is; the largest group has {found.sizes.max():,}",
        f"bound      {bound:.4f}: a target's best chance to stand among the first {k} of a model "
        f"that knows only these columns ({len(targets):,} targets of {split})",
    ]

"""Metric values of RecBole on random lists and scores, for `tests/offline_eval/test_parity.py`.

Run in RecBole's own environment (numpy < 2), from the repository's root:

    /path/to/recbole/bin/python benchmarks/parity_recbole.py > tests/offline_eval/recbole.json
"""

import json
import sys
from importlib.metadata import version

import numpy as np

for name in ("float", "bool", "int"):  # RecBole 1.2 uses names that numpy has dropped
    if name not in np.__dict__:
        setattr(np, name, getattr(__builtins__, name))

from recbole.evaluator.metrics import (  # noqa: E402
    AUC,
    GAUC,
    MAP,
    MRR,
    NDCG,
    GiniIndex,
    Hit,
    LogLoss,
    Precision,
    Recall,
)

USERS, ITEMS, K, CANDIDATES = 40, 30, 8, 25


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """Descending ranks, ties at their mean, as RecBole's collector gives them to GAUC."""
    below = (scores[:, None] < scores[None, :]).sum(axis=1)
    tied = (scores[:, None] == scores[None, :]).sum(axis=1)
    return below + (tied + 1) / 2


def main() -> None:
    rng = np.random.default_rng(1)
    config = {"topk": [K], "metric_decimal_place": 15}
    lists = np.array([rng.permutation(ITEMS)[:K] for _ in range(USERS)])
    truth = [sorted(rng.permutation(ITEMS)[: rng.integers(1, 12)].tolist()) for _ in range(USERS)]
    hits = np.array([np.isin(row, items) for row, items in zip(lists, truth, strict=True)])
    relevant = np.array([len(items) for items in truth])
    values = {
        "hit_rate": Hit(config).metric_info(hits)[:, -1],
        "recall": Recall(config).metric_info(hits, relevant)[:, -1],
        "precision": Precision(config).metric_info(hits)[:, -1],
        "mrr": MRR(config).metric_info(hits)[:, -1],
        "ndcg": NDCG(config).metric_info(hits, relevant)[:, -1],
        "map": MAP(config).metric_info(hits, relevant)[:, -1],
    }
    values = {name: found.astype(float).tolist() for name, found in values.items()}
    labels = rng.random((USERS, CANDIDATES)) < 0.3
    labels[0], labels[1] = False, True  # users of one class alone
    scores = rng.integers(0, 12, labels.shape) / 11  # many ties
    rank_sums = np.array([ranks_of(s)[p].sum() for s, p in zip(scores, labels, strict=True)])
    sizes = np.full(USERS, CANDIDATES)
    gauc = GAUC(config).metric_info(rank_sums[:, None], sizes, labels.sum(axis=1))
    inner = np.clip(scores, 0.01, 0.99).ravel()
    single = {
        "gauc": float(gauc),
        "auc": float(AUC(config).metric_info(inner, labels.ravel().astype(int))),
        "log_loss": float(LogLoss(config).metric_info(inner, labels.ravel().astype(float))),
        "gini": float(GiniIndex(config).get_gini(lists, ITEMS)),
    }
    content = {"recbole": version("recbole"), "k": K, "items": ITEMS, "lists": lists.tolist()}
    content |= {"truth": truth, "values": values, "single": single}
    content |= {"labels": labels.astype(int).tolist(), "scores": scores.tolist()}
    json.dump(content, sys.stdout)


if __name__ == "__main__":
    main()

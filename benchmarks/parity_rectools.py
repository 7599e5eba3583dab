"""Per-user metric values of RecTools on random lists, for `tests/offline_eval/test_parity.py`.

Run in RecTools' own environment (numpy < 2), from the repository's root:

    /path/to/rectools/bin/python benchmarks/parity_rectools.py > tests/offline_eval/rectools.json
"""

import json
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
from rectools.metrics import MAP, MRR, NDCG, HitRate, MeanInvUserFreq, Precision, Recall

USERS, ITEMS, K = 40, 30, 8


def main() -> None:
    rng = np.random.default_rng(0)
    lists = [rng.permutation(ITEMS)[: rng.integers(1, K + 3)].tolist() for _ in range(USERS)]
    truth = [sorted(rng.permutation(ITEMS)[: rng.integers(1, 12)].tolist()) for _ in range(USERS)]
    seen = [sorted(rng.permutation(ITEMS)[:9].tolist()) for _ in range(USERS)]
    reco = pd.DataFrame(
        [(u, item, rank) for u, row in enumerate(lists) for rank, item in enumerate(row, 1)],
        columns=["user_id", "item_id", "rank"],
    )
    interactions, before = (
        pd.DataFrame(
            [(u, item) for u, row in enumerate(table) for item in row],
            columns=["user_id", "item_id"],
        )
        for table in (truth, seen)
    )
    metrics = {
        "hit_rate": HitRate(k=K),
        "recall": Recall(k=K),
        "precision": Precision(k=K),
        "r_precision": Precision(k=K, r_precision=True),
        "map": MAP(k=K),
        "map_divided_by_k": MAP(k=K, divide_by_k=True),
        "mrr": MRR(k=K),
        "ndcg": NDCG(k=K),
        "ndcg_achievable": NDCG(k=K, divide_by_achievable=True),
    }
    values = {n: m.calc_per_user(reco, interactions).tolist() for n, m in metrics.items()}
    novelty = MeanInvUserFreq(k=K)
    values["mean_inverse_user_frequency"] = novelty.calc_per_user(reco, before).tolist()
    content = {"rectools": version("rectools"), "k": K, "items": ITEMS}
    content |= {"lists": lists, "truth": truth, "seen": seen, "values": values}
    json.dump(content, sys.stdout)


if __name__ == "__main__":
    main()

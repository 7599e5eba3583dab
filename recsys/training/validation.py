"""Scores a retriever while it trains: every item ranked for every case, seen items left out.

Shape suffixes: U cases, N items, V item ids (N + 1), K ranks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from features.encode import encode_histories
from features.errors import InputError
from features.store import Cases, Dataset
from offline_eval.metrics import hit_rate, mrr, ndcg
from recsys.models.interface import HistoryBatch, ItemBatch, Retriever
from recsys.training.batches import rows_between, target_codes
from recsys.training.distributed import mean_over_ranks

K, LONG = 10, 20
"""Cut-offs of the scores."""
BLOCK_BYTES = 64 << 20
"""Scores formed at once."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation cases of one rank."""

    dataset: Dataset
    cases: Cases
    repeats: bool = False
    """Items of the history count as candidates."""

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        max_users: int,
        seed: int,
        ranks: tuple[int, int],
        *,
        repeats: bool = False,
    ) -> "Validation":
        """At most `max_users` random cases, dealt out over `ranks` (rank, world size).

        Cases without a history do not count: serving answers them by popularity, not by a model.
        Raises InputError when no case is left.
        """
        cases = dataset.cases("validation")
        known = np.flatnonzero(cases.cuts > cases.starts)
        if not len(known):
            raise InputError(
                f"{dataset.path} has {len(cases)} validation cases, none with a history: choose a "
                f"split that keeps some"
            )
        rows = np.random.default_rng(seed).permutation(known)[:max_users]
        rows = np.sort(rows)[ranks[0] :: ranks[1]]
        mine = Cases(cases.users[rows], cases.starts[rows], cases.cuts[rows], cases.ends[rows])
        return cls(dataset, mine, repeats)

    def scores(
        self, fabric: Fabric, model: Retriever, items_VD: Tensor | None = None
    ) -> dict[str, float]:
        """HR@10, NDCG@10 and MRR@20, averaged over the cases of all ranks.

        `model` is left in training mode. Cases without a target behaviour do not count. items_VD:
        what `encode_all_items` would give, where it is known already.
        """
        model.eval()
        with torch.inference_mode(), fabric.autocast():
            if items_VD is None:
                items_VD = encode_all_items(model, self.dataset, fabric.device)
            size = max(BLOCK_BYTES // (4 * len(items_VD)), 1)
            blocks = [
                self._score_block(model, items_VD, slice(first, first + size))
                for first in range(0, len(self.cases), size)
            ]
        model.train()
        hits_UK = np.concatenate([hits for hits, _ in blocks] or [np.zeros((0, LONG), np.bool_)])
        relevant_U = np.concatenate([number for _, number in blocks] or [np.zeros(0, np.int64)])
        return {
            f"hit_rate@{K}": mean_over_ranks(fabric, hit_rate(hits_UK[:, :K], relevant_U)),
            f"ndcg@{K}": mean_over_ranks(fabric, ndcg(hits_UK[:, :K], relevant_U)),
            f"mrr@{LONG}": mean_over_ranks(fabric, mrr(hits_UK, relevant_U)),
        }

    def _score_block(
        self, model: Retriever, items_VD: Tensor, rows: slice
    ) -> tuple[NDArray[np.bool_], Ints]:
        """Hits (u, K) and the number of distinct targets (u,)."""
        data, device = self.dataset, items_VD.device
        starts, cuts, ends = self.cases.starts[rows], self.cases.cuts[rows], self.cases.ends[rows]
        histories = data.histories(Cases(self.cases.users[rows], starts, cuts, ends))
        table = dict(data.item_table)
        if "item.vector" in model.history_inputs:
            table["vector"] = items_VD.float().cpu().numpy()
        inputs = encode_histories(histories, model.history_inputs, model.max_len, table)
        batch = HistoryBatch.of({name: torch.from_numpy(x) for name, x in inputs.items()})
        scores_UV = (model.encode_history(batch.to(device)) @ items_VD.T).float()
        scores_UV[:, 0] = -torch.inf
        if not self.repeats:
            user, row = rows_between(starts, cuts)
            scores_UV[torch.from_numpy(user), torch.from_numpy(data.items[row]).long()] = -torch.inf
        user, row = rows_between(cuts, ends)
        counts = np.isin(data.events[row], target_codes(data.schema))
        if data.schema.cold_targets == "drop":
            counts &= data.items[row] <= data.schema.num_warm_items
        relevant_UV = torch.zeros(scores_UV.shape, dtype=torch.bool, device=device)
        relevant_UV[
            torch.from_numpy(user[counts]), torch.from_numpy(data.items[row[counts]]).long()
        ] = True
        top_UK = scores_UV.topk(min(LONG, len(items_VD) - 1), dim=1)
        hits_UK = relevant_UV.gather(1, top_UK.indices) & (top_UK.values > -torch.inf)
        padded_UK = np.zeros((len(starts), LONG), np.bool_)
        padded_UK[:, : hits_UK.size(1)] = hits_UK.cpu().numpy()
        return padded_UK, relevant_UV.sum(1).cpu().numpy()


def encode_all_items(model: Retriever, dataset: Dataset, device: torch.device) -> Tensor:
    """Vectors of the item ids 0..N, (V, D)."""
    num_ids, table = dataset.schema.num_items + 1, dataset.item_table
    blocks = []
    for first in range(0, num_ids, 65_536):
        ids = np.arange(first, min(first + 65_536, num_ids))
        attributes = {
            name: torch.from_numpy(table[name][ids]).to(device) for name in model.item_inputs
        }
        blocks.append(model.encode_items(ItemBatch(torch.from_numpy(ids).to(device), attributes)))
    return torch.cat(blocks)

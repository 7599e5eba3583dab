"""The pre-training losses of Recformer (Sec. 2.3).

Shape suffixes: B samples, C candidates, T tokens, M masked tokens, D width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.losses import CrossEntropy
from recsys.models.sentence_encoder import SentenceEncoder

Masked = tuple[Tensor, Tensor]
"""Tokens as the encoder is shown them, and the token ids to name, 0 elsewhere; (B, T) both."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """B histories, and the item that came next in each.

    tokens, items: (B, T) int64, as `SentenceEncoder.forward` takes them. target: (B, S) int64, the
    next item alone, column 0 for [CLS]. ids: (B,) int64, which item that is. history, named: the
    masked versions of both, where they are trained.
    """

    tokens: Tensor
    items: Tensor
    target: Tensor
    ids: Tensor
    history: Masked | None = None
    named: Masked | None = None

    @property
    def num_targets(self) -> int:
        """Samples."""
        return len(self.ids)

    def to(self, device: torch.device) -> "Contrast":
        """The same batch on `device`."""

        def move(masked: Masked | None) -> Masked | None:
            return None if masked is None else (masked[0].to(device), masked[1].to(device))

        return Contrast(
            self.tokens.to(device),
            self.items.to(device),
            self.target.to(device),
            self.ids.to(device),
            move(self.history),
            move(self.named),
        )


class MaskedTokens(nn.Module):
    """What is compared with the word table to name a token, as BERT's head; no bias by word."""

    def __init__(self, dim: int, norm_epsilon: float) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim, norm_epsilon)

    def forward(self, states_MD: Tensor) -> Tensor:
        """(M, D)."""
        return self.norm(F.gelu(self.dense(states_MD)))


def contrast(states_BD: Tensor, items_CD: Tensor, ids_C: Tensor) -> Tensor:
    """Eq. 5: mean over histories of -log softmax of the score of its own item, row b of C.

    Candidates of the same id are no negatives of each other. Computed in float32.
    """
    with torch.autocast(states_BD.device.type, enabled=False):
        scores_BC = states_BD.float() @ items_CD.float().T
    own_B = torch.arange(len(states_BD), device=states_BD.device)
    same_BC = ids_C[: len(states_BD), None] == ids_C
    same_BC[own_B, own_B] = False
    return F.cross_entropy(scores_BC.masked_fill(same_BC, -torch.inf), own_B)


def name_masked(
    encoder: SentenceEncoder, head: MaskedTokens, masked: Masked, items_BT: Tensor
) -> Tensor:
    """Eq. 4: mean over masked tokens of -log softmax over all words; 0 where none is masked."""
    shown_BT, named_BT = masked
    row_M, column_M = named_BT.nonzero(as_tuple=True)
    if not len(row_M):
        return shown_BT.new_zeros((), dtype=torch.float32)
    states_MD = head(encoder.states(shown_BT, items_BT)[row_M, column_M])
    with torch.autocast(states_MD.device.type, enabled=False):
        loss = CrossEntropy.apply(
            states_MD.float(), named_BT[row_M, column_M], encoder.embeddings.word.weight
        )
    assert isinstance(loss, Tensor)
    return loss

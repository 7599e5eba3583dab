"""DARE: decoupled attention and representation embeddings (Feng et al., ICLR 2025, 2410.02604).

Two sets of tables: one only decides *which* past events matter for a candidate, the other only says
*what* they mean. In models that share one (TWIN), the two pull it in different directions, and
representation, whose gradient is greater, wins (Sec. 2). Details follow the authors' code
(thuml/DARE), from which their numbers came; search, heads and losses are in `interest.py`.

Departures, each with a switch back or without effect on what is learned:

- Padding takes no weight in the second stage (`attend_padding` restores it): in the reference, of a
  history of 3 events most of the weight falls on padding.
- Evaluation uses running statistics in BatchNorm (`batch_statistics`): the reference never leaves
  training mode, and such a model cannot answer a single request.
- Histories are padded on the right; recency ranks (1: newest) are what the model sees either way.
- Ranks above `num_positions` share an embedding, so a history may be longer than any in training.
- Fields with several values (genres) are averaged; the paper's have one.
- The score is a difference of logits; the reference adds 1e-8 to probabilities.

Shape suffixes: those of `interest.py`.
"""

from dataclasses import dataclass

from torch import Tensor

from recsys.models.interest import InterestRanker, one_product
from recsys.models.interest_fields import FieldEmbedding, InterestConfig
from recsys.models.interface import Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class DAREConfig(InterestConfig):
    """Sizes of one DARE."""

    attention_dim: int | None = None
    """Width of the attention embeddings, a field; None: as wide as the representation. Search time
    is proportional to it."""

    def __post_init__(self) -> None:
        InterestConfig.__post_init__(self)
        if self.attention_dim is not None and self.attention_dim < 1:
            raise ValueError(f"attention_dim={self.attention_dim} must be at least 1")


class DARE(InterestRanker):
    """Sec. 3: E^A finds and weighs the events, E^R is what is pooled and compared."""

    def __init__(self, config: DAREConfig) -> None:
        super().__init__(config)
        self.attention = FieldEmbedding(config, config.attention_dim or config.dim)
        self.representation = FieldEmbedding(config, config.dim)
        self.add_heads()

    def relevance(self, tensors: Tensors) -> Tensor:
        """Sec. 3.1: inner products of the attention embeddings."""
        return tensors["query"] @ tensors["key"].transpose(1, 2)

    def attention_scores(self, tensors: Tensors) -> Tensor:
        """One matrix product scores all candidates of a request."""
        return one_product(tensors["query"], tensors)

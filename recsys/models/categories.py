"""Models that say, beside the vector of a history, what kind of item comes next."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from recsys.models.interface import HistoryBatch


@runtime_checkable
class PredictsCategories(Protocol):
    """A retriever with a head for some category columns of the items."""

    @property
    def head_names(self) -> tuple[str, ...]:
        """The columns, in the order of the logits."""
        ...

    def encode_with_categories(self, batch: HistoryBatch) -> tuple[Tensor, ...]:
        """What `encode_history` gives, (B, D), then for each column logits (B, C - 2) over its
        known values, from code 2 on.
        """
        ...

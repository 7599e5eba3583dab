"""Attributes of items to vectors: a table for the values of each column, never one for the items.

A column's part of an item is the embedding of its value, or the mean of those of its values or
tokens. Parts are concatenated. Code 0 (missing) adds nothing; an item without any value of a list
counts as unknown (code 1), and unknown is trained by hiding some values at random.

Shape suffixes: N items, W values of a list, D width of a part.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.interface import Column

INIT_STD = 0.02
UNKNOWN = 1
READABLE = ("category", "categories", "text")
"""Kinds of column that have a table; numbers are read by their buckets (`features.buckets`)."""


class MeanEmbedding(nn.Embedding):
    """The mean of the embeddings of several codes, 0 left out; zero where there is none."""

    def forward(self, input: Tensor) -> Tensor:  # the name in torch
        """(N, W) integer codes to (N, D)."""
        codes_NW = input
        real_NW = codes_NW > 0
        count_N1 = real_NW.sum(1, keepdim=True).clamp(min=1)
        if torch.compiler.is_exporting():  # onnxruntime has no fused operator for bags
            summed_ND = (super().forward(codes_NW) * real_NW[..., None]).sum(1)
        else:  # no (N, W, D) tensor: for a whole catalogue it would be gigabytes
            summed_ND = F.embedding_bag(codes_NW, self.weight, mode="sum", padding_idx=0)
        return summed_ND / count_N1


class AttentionEmbedding(nn.Embedding):
    """As `MeanEmbedding`, each code weighted by the softmax of a learned score."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx)
        self.weigh = nn.Linear(embedding_dim, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # the name in torch
        """(N, W) integer codes to (N, D)."""
        codes_NW = input
        values_NWD = super().forward(codes_NW)
        real_NW1 = (codes_NW > 0)[..., None]
        score_NW1 = self.weigh(values_NWD).masked_fill(~real_NW1, -1e9)
        return (score_NW1.softmax(1) * values_NWD * real_NW1).sum(1)


class ItemAttributes(nn.Module):
    """The concatenated parts of some columns."""

    def __init__(
        self,
        columns: Sequence[Column],
        widths: Mapping[str, int],
        *,
        hidden: float,
        attend: bool = False,
    ) -> None:
        """widths: D by kind of column. hidden: share of values shown as unknown in training.

        attend: texts are pooled by attention instead of the plain mean.
        """
        super().__init__()
        self.names = tuple(column.name for column in columns)
        self.hidden = hidden
        self.is_text = tuple(column.kind == "text" for column in columns)
        tables: list[nn.Embedding] = []
        for column in columns:
            pool = AttentionEmbedding if attend and column.kind == "text" else MeanEmbedding
            kind = nn.Embedding if column.kind == "category" else pool
            tables.append(kind(column.size, widths[column.kind], padding_idx=0))
            nn.init.normal_(tables[-1].weight, std=INIT_STD)
            with torch.no_grad():
                tables[-1].weight[0].zero_()
        self.tables = nn.ModuleList(tables)
        self.width = sum(table.embedding_dim for table in tables)

    def table(self, name: str) -> nn.Embedding:
        """The table of a column."""
        table = self.tables[self.names.index(name)]
        assert isinstance(table, nn.Embedding)
        return table

    def forward(self, attributes: Mapping[str, Tensor]) -> Tensor:
        """attributes: of N items by name, (N,) or (N, W). Returns (N, sum of D)."""
        parts = []
        for name, table, is_text in zip(self.names, self.tables, self.is_text, strict=True):
            codes = attributes[name]
            if not is_text:
                codes = self._with_unknown(codes)
            parts.append(table(codes))
        return torch.cat(parts, 1)

    def _with_unknown(self, codes: Tensor) -> Tensor:
        """Empty lists become unknown; in training so do some values."""
        if codes.dim() == 2:
            nothing_N1 = (codes == 0).all(1, keepdim=True)
            first_W = torch.arange(codes.size(1), device=codes.device) == 0
            codes = torch.where(nothing_N1 & first_W, UNKNOWN, codes)
        if self.training and self.hidden:
            gone = (torch.rand(codes.shape, device=codes.device) < self.hidden) & (codes > 0)
            codes = torch.where(gone, UNKNOWN, codes)
        return codes


def choose_columns(
    columns: Sequence[Column], names: Sequence[str] | None, kinds: Sequence[str]
) -> tuple[Column, ...]:
    """The columns of `names`, None for all of these kinds. Raises ValueError naming the wrong."""
    usable = {column.name: column for column in columns if column.kind in kinds}
    if names is None:
        return tuple(usable.values())
    if wrong := [name for name in names if name not in usable]:
        raise ValueError(
            f"{wrong} cannot be used: the dataset's columns of the kinds {', '.join(kinds)} are "
            f"{sorted(usable)}; numbers become such a column by features.buckets"
        )
    return tuple(usable[name] for name in names)

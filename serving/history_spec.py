"""What a manifest says of a source that answers from training histories."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class HistoryNeighbourSpec(BaseModel):
    """The training histories most like a request's: their vectors, and their items as CSR."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["history_knn"] = "history_knn"
    name: str
    model: str
    """Name in recsys.models.MODELS, for the record."""
    encoder: str
    """Graph with one output (B, D) float32."""
    inputs: tuple[str, ...]
    """Input names of `features.encode`, in the order of the graph."""
    vectors: str
    """(P + 1, D) float16 of length 1; row i belongs to the training history i, from 1."""
    centre: str
    """(D,) float32: the mean of the encoder's vectors, taken off before lengths become 1."""
    indptr: str
    """(P + 1,): where the items of each history start, and where the last end."""
    items: str
    """Dense ids, in the order of each history."""
    histories: int
    """P."""
    max_len: int
    dim: int
    neighbours: int
    """Histories that vote."""
    temperature: float
    """Of the votes: differences of cosines are divided by it."""
    candidates: int

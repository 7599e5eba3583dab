"""What an export measures of a bundle, as its manifest tells it."""

from pydantic import BaseModel, ConfigDict


class Measured(BaseModel):
    """Frozen; refuses unknown keys and converts nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Parity(Measured):
    """Greatest difference of onnxruntime from torch over one batch of histories."""

    batch: int
    length: int
    """Events of the longest history; 0 is a batch of empty histories."""
    max_abs_difference: float
    scale: float
    """Greatest absolute value in the torch output."""


class ItemParity(Measured):
    """Greatest difference of onnxruntime from torch over one batch of items."""

    items: int
    max_abs_difference: float
    scale: float
    """Greatest absolute value in the torch output."""
    neighbours_kept: float | None = None
    """Of a graph of 8-bit products, which differs by more than rounding: see `item_encoder`."""


class Quantized(Measured):
    """What int8 weights change: over held-out histories, against the same graph in float32."""

    histories: int
    k: int
    overlap: float
    """Mean share of the exact top k that stays."""
    max_abs_difference: float
    scale: float


class IndexRecall(Measured):
    """Share of the exact top k that the index finds, on held-out histories."""

    source: str
    index: str
    k: int
    queries: int
    recall: float

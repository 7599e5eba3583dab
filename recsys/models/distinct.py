"""The distinct items of several tensors of ids, so that each is encoded once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Items = tuple[Tensor, Mapping[str, Tensor]]
"""Ids (...) and attributes (..., W) of some items."""


def distinct_items(
    parts: Sequence[Items], inputs: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """Ids (U,) and attributes (U, ...) of the items of all parts, each once; and for each part the
    places (...) of its ids in them.
    """
    flat_N = torch.cat([ids.reshape(-1) for ids, _ in parts])
    ids_U, place_N = torch.unique(flat_N, return_inverse=True)
    some_U = torch.empty_like(ids_U).scatter_(
        0, place_N, torch.arange(len(flat_N), device=flat_N.device)
    )  # a place where each stands: any will do, equal ids have equal attributes
    attributes = {}
    for name in inputs:
        values = [given[name].reshape(-1, *given[name].shape[ids.dim() :]) for ids, given in parts]
        attributes[name] = torch.cat(values)[some_U]
    places = place_N.split([ids.numel() for ids, _ in parts])
    shaped = [place.view(ids.shape) for place, (ids, _) in zip(places, parts, strict=True)]
    return ids_U, attributes, shaped


def gather(values: Tensor, places: Tensor) -> Tensor:
    """Rows of (U, ...) at places (...)."""
    return values.index_select(0, places.reshape(-1)).view(*places.shape, *values.shape[1:])

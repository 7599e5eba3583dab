"""The playlists most like one, asked of a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.encode import Histories
from serving.bundle import open_bundle
from serving.errors import BundleError, RequestError
from serving.history_source import HistorySource
from serving.parts import Parts


@dataclass(frozen=True, slots=True)
class Near:
    """A training playlist that is like the one asked for."""

    cosine: float
    songs: list[str]
    """Titles, or raw ids of songs without one, in order."""
    shared: int
    """How many of the songs asked for it holds."""


def nearest_playlists(bundle: Path, songs: Sequence[str], k: int) -> list[Near]:
    """The k training playlists of a bundle that are most like `songs`, raw ids in order.

    Raises RequestError where no song is known, BundleError where the bundle has no source of
    training histories.
    """
    parts = Parts.load(open_bundle(bundle))
    sources = [one for one in parts.sources if isinstance(one, HistorySource)]
    if not sources:
        raise BundleError(
            f"{bundle} holds the sources {[one.name for one in parts.sources]}, none of training "
            f'histories: export it with sources = ["history_knn", ...]'
        )
    catalogue, source = parts.catalogue, sources[0]
    dense = catalogue.find_all([catalogue.parse(text) for text in songs])
    if not len(dense):
        raise RequestError(
            f"none of the {len(songs)} songs is among the {catalogue.num_items} of {bundle}"
        )
    rows, cosines = source.nearest(source.encode(Histories.of([dense])), k)
    found = []
    for row, cosine in zip(rows[0].tolist(), cosines[0].tolist(), strict=True):
        if not row:
            continue
        items = source.items_of(row)
        titles = [catalogue.title(item) or str(catalogue.raw_ids[item]) for item in items.tolist()]
        found.append(Near(cosine, titles, int(np.isin(np.unique(dense), items).sum())))
    return found

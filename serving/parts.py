"""What a recommender is made of: everything of a bundle, opened, and extended by new items."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.layout import ITEMS, DatasetSchema
from features.store import read_table, to_arrays, write_table
from serving.bundle import Bundle
from serving.catalogue import Catalogue
from serving.errors import BundleError, RequestError
from serving.history_source import HistorySource
from serving.index import RemoteIndexes
from serving.manifest import (
    HistoryNeighbourSpec,
    Manifest,
    ModelSpec,
    NeighbourSpec,
    PopularitySpec,
    SourceSpec,
)
from serving.model_source import ModelSource
from serving.new_items import ItemReader, ItemRows, NewItems
from serving.popularity import PopularitySource
from serving.ranker import SecondStage, load_ranker
from serving.sources import NeighbourSource, Source


@dataclass(frozen=True, slots=True)
class Parts:
    """The opened parts of one bundle. Immutable: `with_items` makes others that share the rest."""

    path: Path
    manifest: Manifest
    """golden is empty where items were added: their answers are not yet known."""
    schema: DatasetSchema
    catalogue: Catalogue
    item_table: Mapping[str, NDArray]
    sources: tuple[Source, ...]
    """In order of priority."""
    ranker: SecondStage | None
    sha256: str
    """Of the bundle's manifest; with items added, of that and of them."""
    version: str
    """The name given in every answer; one with a + holds items that are in no bundle yet."""

    @classmethod
    def load(
        cls, bundle: Bundle, *, batches: bool = False, indexes: RemoteIndexes | None = None
    ) -> Self:
        """Open a verified bundle; raises BundleError where its parts do not fit.

        batches, indexes: see `Recommender.load`.
        """
        directory, manifest = bundle.path, bundle.manifest
        if manifest.outcomes is not None:
            raise BundleError(
                f"{directory} predicts outcomes of persons and recommends nothing: load it with "
                f"serving.outcomes.OutcomePredictor"
            )
        try:
            schema = DatasetSchema.read(directory)
            item_table = to_arrays(read_table(directory / ITEMS))
            catalogue = Catalogue.load(directory, schema)
        except InputError as error:
            raise BundleError(str(error)) from error
        if schema.num_items != manifest.num_items:
            raise BundleError(
                f"{directory} has {schema.num_items} items in its schema and "
                f"{manifest.num_items} in its manifest: export it again"
            )
        return cls(
            directory,
            manifest,
            schema,
            catalogue,
            item_table,
            tuple(
                load_source(bundle, spec, item_table, batches=batches, indexes=indexes)
                for spec in manifest.sources
            ),
            manifest.ranker and load_ranker(bundle, manifest.ranker, item_table, schema),
            bundle.sha256,
            bundle.version,
        )

    def with_items(self, rows: ItemRows) -> Self:
        """Parts that also know new items; raises RequestError, and these stay as they are."""
        if not any(isinstance(source, ModelSource) for source in self.sources):
            raise RequestError(
                "no source of this bundle reads item attributes: new items would be shown to nobody"
            )
        new = ItemReader.load(self.path, self.schema).read(rows, self.catalogue)
        sources = tuple(source.with_items(new) for source in self.sources)
        table = {
            name: np.concatenate([self.item_table[name], values])
            for name, values in new.attributes.items()
        }
        digest = _digest(self.sha256, new)
        num_items = self.schema.num_items + len(new)
        return replace(
            self,
            manifest=self.manifest.model_copy(update={"num_items": num_items, "golden": ()}),
            schema=replace(self.schema, num_items=num_items),
            catalogue=self.catalogue.with_items(new.raw_ids, new.columns),
            item_table=table,
            sources=sources,
            ranker=self.ranker and self.ranker.with_items(new, table),
            sha256=digest,
            version=f"{self.version.split('+')[0]}+{digest[:6]}",
        )

    def write(self, directory: Path) -> None:
        """Write the files of a bundle that `with_items` changes."""
        self.schema.write(directory)
        self.catalogue.write(directory)
        write_table(directory / ITEMS, self.item_table)
        for part in (*self.sources, self.ranker):
            if part is not None:
                part.write(directory)


def load_source(
    bundle: Bundle,
    spec: SourceSpec,
    item_table: Mapping[str, NDArray],
    *,
    batches: bool,
    indexes: RemoteIndexes | None,
) -> Source:
    """The source that a line of the manifest describes; raises BundleError."""
    match spec:
        case ModelSpec():
            return ModelSource.load(bundle, spec, item_table, batches=batches, indexes=indexes)
        case NeighbourSpec():
            return NeighbourSource.load(bundle, spec)
        case HistoryNeighbourSpec():
            return HistorySource.load(bundle, spec, item_table)
        case PopularitySpec():
            return PopularitySource.load(bundle, spec)


def _digest(before: str, new: NewItems) -> str:
    digest = hashlib.sha256(before.encode())
    digest.update(repr(new.raw_ids).encode())
    for name, values in sorted(new.attributes.items()):
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()

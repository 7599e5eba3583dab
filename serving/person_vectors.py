"""The person behind a history, as an outcome model sees them: features of the second stage.

    history (dense ids) -> tokens, looked up -> document -> graph -> (B, D)

What an item or a behaviour says in the outcome model's tokens is encoded once, at load, by the code
that encodes the events of persons. Background and birth are not known of a history.

Shape suffixes: B histories, C candidates, D width of a vector, E events, F tokens of an event.
"""

from dataclasses import replace
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encode import Histories
from features.errors import InputError
from features.layout import DatasetSchema
from features.life_encode import Documents, merge_rows
from features.life_layout import NO_BIRTH, LifeSchema, TokenField
from features.life_tokens import encode_fields
from serving.bundle import Bundle
from serving.catalogue import Catalogue
from serving.errors import BundleError
from serving.life_requests import ITEM
from serving.manifest import OutcomeSpec
from serving.outcomes import OutcomePredictor
from serving.topk import Floats

EVENT = "event"
"""The field whose values are behaviours."""
Tokens = NDArray[np.int32]


class PersonVectors:
    """Immutable and safe to share between threads."""

    def __init__(self, predictor: OutcomePredictor, items_NF: Tokens, events_VF: Tokens) -> None:
        """items_NF: tokens that an item brings, a row a dense id; events_VF: a behaviour code.

        Each has zeros where the other has tokens.
        """
        self._predictor, self._items_NF, self._events_VF = predictor, items_NF, events_VF
        background = predictor.schema.background
        nothing = pl.DataFrame({field.name: [None] for field in background})
        row = encode_fields(nothing, background) if background else np.zeros((1, 0), np.int32)
        self._background_1G = row
        self.names = tuple(f"person_{place}" for place in range(predictor.dim))
        """Of the D features."""

    @classmethod
    def load(cls, bundle: Bundle, spec: OutcomeSpec) -> Self:
        """Open the graph and encode the catalogue; raises BundleError where they do not fit."""
        manifest = bundle.manifest.model_copy(update={"outcomes": spec})
        predictor = OutcomePredictor(replace(bundle, manifest=manifest))
        try:
            schema = DatasetSchema.read(bundle.path)
            raw_ids = Catalogue.load(bundle.path, schema).raw_series
        except InputError as error:
            raise BundleError(str(error)) from error
        events = pl.DataFrame({EVENT: [None, *schema.event_types]}, {EVENT: pl.String})
        items = raw_ids[1:].to_frame()
        if spec.items:
            known = pl.read_parquet(bundle.path / spec.items)
            try:
                items = items.with_columns(pl.col(ITEM).cast(known.schema[ITEM]))
            except pl.exceptions.PolarsError as error:
                raise BundleError(
                    f"items of {bundle.path} are {items.schema[ITEM]}, those of the outcome model "
                    f"{known.schema[ITEM]}: make both from one log"
                ) from error
            items = items.join(known, on=ITEM, how="left", maintain_order="left")
        tokens = [_tokens(predictor.schema, frame) for frame in (items, events)]
        missing = set(_names(predictor.schema.fields)) - set(items.columns) - {EVENT}
        if missing:
            raise BundleError(
                f"the outcome model reads {sorted(missing)} of an event, which a history does not "
                f"have: use one whose fields are columns of items, {ITEM} or {EVENT}"
            )
        return cls(predictor, np.pad(tokens[0], ((1, 0), (0, 0))), tokens[1])

    def with_items(self, count: int) -> "PersonVectors":
        """The same, where so many more items may stand in histories, of which nothing is known."""
        items_NF = np.pad(self._items_NF, ((0, count), (0, 0)))
        return PersonVectors(self._predictor, items_NF, self._events_VF)

    def append(self, features_BCF: Floats, histories: Histories) -> Floats:
        """The features with the vector of each history's person behind them, (B, C, F + D)."""
        vectors_BD = self.of(histories)
        shape = (*features_BCF.shape[:2], vectors_BD.shape[1])
        vectors_BCD = np.broadcast_to(vectors_BD[:, None, :], shape)
        return np.concatenate([features_BCF, vectors_BCD], axis=2, dtype=np.float32)

    def of(self, histories: Histories) -> Floats:
        """(B, D) float32; nan for a history with an event without a time."""
        documents, undated_B = self._documents(histories)
        vectors_BD = self._predictor.run(documents).persons
        vectors_BD[undated_B] = np.nan
        return vectors_BD

    def _documents(self, histories: Histories) -> tuple[Documents, NDArray[np.bool_]]:
        lengths_B = histories.lengths
        ends_B = np.cumsum(lengths_B)
        owner_E = np.repeat(np.arange(len(histories)), lengths_B)
        rows_E = np.arange(len(owner_E)) + np.repeat(
            histories.starts - (ends_B - lengths_B), lengths_B
        )
        stamps_E = np.asarray(histories.timestamps[rows_E], np.int64)
        tokens_EF = self._items_NF[histories.items[rows_E]]
        tokens_EF = tokens_EF + self._events_VF[histories.events[rows_E]]
        tokens_EF, first = merge_rows(tokens_EF, owner_E, stamps_E, self._predictor.schema.merge)
        bounds = np.searchsorted(owner_E[first], np.arange(len(histories) + 1))
        undated_B = np.bincount(owner_E, stamps_E == 0, minlength=len(histories)) > 0
        background = np.repeat(self._background_1G, len(histories), axis=0)
        birth = np.full(len(histories), NO_BIRTH)
        documents = Documents(
            stamps_E[first], tokens_EF, bounds[:-1], bounds[1:], background, birth
        )
        return documents, undated_B


def _names(fields: tuple[TokenField, ...]) -> list[str]:
    return [name for field in fields for name in (field.name, field.by) if name]


def _tokens(schema: LifeSchema, frame: pl.DataFrame) -> Tokens:
    """(rows, F): the tokens of the fields that the frame has, zeros in the place of the others."""
    blocks = []
    for field in schema.fields:
        if {*_names((field,))} <= set(frame.columns):
            blocks.append(encode_fields(frame, (field,)))
        else:
            blocks.append(np.zeros((len(frame), field.width), np.int32))
    return np.concatenate(blocks, axis=1)

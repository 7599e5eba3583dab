"""Lives to model inputs: the one encoding that training, export and serving share. numpy only.

    tokens    (B, L) int64    CLS, background, SEP, then each event's tokens and a SEP; 0 padding
    days      (B, L) float32  first clock: 1 at its origin, in the schema's unit; 0 in the prefix
    ages      (B, L) float32  years since birth at the event; 0 in the prefix or where not known
    segments  (B, L) int64    1 in the prefix, 2, 3, 1 in turn for the events, 0 padding

Padding is on the right. A person with more than `max_len` tokens keeps the most recent whole
events that fit.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.life_layout import CLS, MICROSECONDS, NO_BIRTH, SEP, UNKNOWN, YEAR, LifeSchema

INPUTS = ("tokens", "days", "ages", "segments")
FIRST_SEGMENTS = np.array([2, 3, 1])
Ints = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Documents:
    """B persons at a moment each, over shared event arrays: rows [starts, ends) of them.

    timestamps: (E,) int64 microseconds. tokens: (E, F) int32. background: (B, G) int32, 0 missing.
    birth: (B,) int64 microseconds or NO_BIRTH.
    """

    timestamps: Ints
    tokens: Ints
    starts: Ints
    ends: Ints
    background: Ints
    birth: Ints

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: Ints | slice) -> "Documents":
        """The documents at `rows`, sharing the events."""
        return replace(
            self,
            starts=self.starts[rows],
            ends=self.ends[rows],
            background=self.background[rows],
            birth=self.birth[rows],
        )


@dataclass(frozen=True, slots=True)
class EventBlock:
    """The events of B documents as one table, by document, oldest first.

    owner: (n,) document of each event. tokens: (n, F). days, ages: (n,) float64.
    background: (B, G).
    """

    owner: NDArray[np.int64]
    tokens: Ints
    days: NDArray[np.float64]
    ages: NDArray[np.float64]
    background: Ints

    def take(self, rows: Ints | NDArray[np.bool_]) -> "EventBlock":
        """Some of the events, in their order."""
        return EventBlock(
            self.owner[rows], self.tokens[rows], self.days[rows], self.ages[rows], self.background
        )


def merge_rows(
    tokens: Ints, owner: Ints, timestamps: Ints, width: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Rows of one owner and moment as one event: tokens (E, width), and the first row of each.

    Rows are sorted by owner and time; those without a token vanish. More than `width` tokens make
    further events of the same moment. width 0 only drops the empty rows.
    """
    if not width:
        telling = np.flatnonzero(tokens.any(axis=1))
        return tokens[telling].astype(np.int32), telling
    row, column = np.nonzero(tokens)
    if not len(row):
        return np.zeros((0, width), np.int32), row
    begins = np.ones(len(row), np.bool_)
    begins[1:] = (owner[row][1:] != owner[row][:-1]) | (timestamps[row][1:] != timestamps[row][:-1])
    first = np.maximum.accumulate(np.where(begins, np.arange(len(row)), 0))
    nth = np.arange(len(row)) - first
    begins |= nth % width == 0
    event = np.cumsum(begins) - 1
    merged = np.zeros((event[-1] + 1, width), np.int32)
    merged[event, nth % width] = tokens[row, column]
    return merged, row[begins]


def token_counts(documents: Documents) -> NDArray[np.int64]:
    """Tokens each document would have without a limit, about: SEPs counted, (B,)."""
    per_event = (documents.tokens > 0).sum(1) + 1
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(per_event)])
    prefix = documents.background.shape[1] + 2
    return total[documents.ends] - total[documents.starts] + prefix


def gather_events(documents: Documents, schema: LifeSchema, max_len: int) -> EventBlock:
    """The events that can fit into `max_len` tokens, with both clocks."""
    most = max(max_len // 2, 1)  # an event has a token and a SEP at least
    starts = np.maximum(documents.starts, documents.ends - most)
    lengths = documents.ends - starts
    owner = np.repeat(np.arange(len(documents)), lengths)
    before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    row = np.arange(len(owner)) - before + starts[owner]
    stamps = documents.timestamps[row].astype(np.float64)
    if schema.origin is None:
        any_event = documents.ends > documents.starts
        first = np.where(any_event, documents.starts, 0)
        origin = documents.timestamps[first] if len(documents.timestamps) else first
        days = stamps - origin[owner]
    else:
        days = stamps - schema.origin
    birth = documents.birth[owner]
    ages = np.where(birth == NO_BIRTH, 0.0, (stamps - birth) / YEAR)
    unit = schema.clock_seconds * MICROSECONDS
    return EventBlock(owner, documents.tokens[row], days / unit + 1, ages, documents.background)


def assemble(block: EventBlock, max_len: int) -> dict[str, NDArray]:
    """The named input arrays; the oldest events that do not fit are left out."""
    num_documents, num_background = block.background.shape
    prefix = num_background + 2
    size = (block.tokens > 0).sum(1) + 1
    kept = _newest(block.owner, size, num_documents) <= max_len - prefix
    block, size = block.take(kept), size[kept]
    total = np.bincount(block.owner, size, num_documents).astype(np.int64)
    width = prefix + int(total.max(initial=0))
    tokens = np.zeros((num_documents, width), np.int64)
    days, ages = (np.zeros((num_documents, width), np.float32) for _ in range(2))
    segments = np.zeros((num_documents, width), np.int64)
    tokens[:, 0], tokens[:, prefix - 1], segments[:, :prefix] = CLS, SEP, 1
    missing = block.background == 0
    tokens[:, 1 : prefix - 1] = np.where(missing, UNKNOWN, block.background)
    with_sep = np.pad(block.tokens, ((0, 0), (0, 1)), constant_values=SEP)
    event, column = np.nonzero(with_sep)
    owner = block.owner[event]
    begin = np.cumsum(total) - total
    place = np.arange(len(event)) - begin[owner] + prefix
    number = np.bincount(block.owner, minlength=num_documents)
    nth = np.arange(len(block.owner)) - (np.cumsum(number) - number)[block.owner]
    tokens[owner, place] = with_sep[event, column]
    days[owner, place], ages[owner, place] = block.days[event], block.ages[event]
    segments[owner, place] = FIRST_SEGMENTS[nth % 3][event]
    return {"tokens": tokens, "days": days, "ages": ages, "segments": segments}


def _newest(owner: NDArray[np.int64], size: Ints, num_documents: int) -> NDArray[np.int64]:
    """Tokens from each event to the end of its document, its own included."""
    total = np.cumsum(size)
    last = np.bincount(owner, size, num_documents).cumsum().astype(np.int64)
    return last[owner] - total + size


def encode_documents(documents: Documents, schema: LifeSchema, max_len: int) -> dict[str, NDArray]:
    """What a model reads of `documents`: the four arrays of this file's head."""
    return assemble(gather_events(documents, schema, max_len), max_len)

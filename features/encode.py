"""Histories to model inputs: the one encoding that training, export and serving share. numpy only.

Input names are fixed, so a model, its ONNX graph and this file agree on them:

    items        (B, L) int64    dense item ids, oldest first, padded on the right with 0
    events       (B, L) int64    behaviour codes, 0 padding
    timestamps   (B, L) int64    microseconds UTC, 0 padding
    item.<name>  (B, L, ...)     an attribute of items.arrow, gathered for each position
    <name>:<code>                the same of the events of one behaviour only, the most recent ones
    tokens       (B, T) int64    item sentences (`features.sentences`), the newest item's first:
                                 column 0 is 0, where a model puts its own token; then token ids,
                                 those of attribute names negated; 0 padding
    token_items  (B, T) int64    the item of each token, 1 the newest; 0 in column 0 and padding
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]
BEHAVIOUR_MARK = ":"
SENTENCE: Literal["sentence"] = "sentence"
"""The item column that `tokens` are taken from, and its kind."""
TOKEN_INPUTS = ("tokens", "token_items")


@dataclass(frozen=True, slots=True)
class Histories:
    """B histories cut from shared value arrays without copying: rows [starts, ends) of each.

    items: (E,) dense ids. timestamps: (E,) microseconds UTC. events: (E,) behaviour codes.
    starts, ends: (B,) int64. Within a history the oldest event comes first.
    """

    items: Ints
    timestamps: Ints
    events: Ints
    starts: Ints
    ends: Ints

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events per history, (B,)."""
        return (self.ends - self.starts).astype(np.int64)

    def of_behaviour(self, code: int) -> "Histories":
        """The events of one behaviour, copied; a history may be left without any."""
        lengths = self.lengths
        firsts = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) + np.repeat(self.starts - firsts, lengths)
        chosen = self.events[rows] == code
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen)])
        rows = rows[chosen]
        return Histories(
            self.items[rows],
            self.timestamps[rows],
            self.events[rows],
            before[firsts],
            before[firsts + lengths],
        )

    def take(self, rows: Ints | slice) -> "Histories":
        """The histories at `rows`, sharing the values."""
        return Histories(
            self.items, self.timestamps, self.events, self.starts[rows], self.ends[rows]
        )

    def prefixes(self, shortest: int | Ints = 1) -> tuple["Histories", NDArray[np.int64]]:
        """What came before each event: every proper prefix of `shortest` events and more.

        Returns the prefixes, which share the values, and the row of the event after each, (P,).
        shortest: one number, or one a history, (B,). B histories of E events are at most E rows
        of two numbers, whatever their lengths.

        >>> before, rows = Histories.of([[7, 8, 9], [5]]).prefixes()
        >>> [before.items[s:e].tolist() for s, e in zip(before.starts, before.ends)]
        [[7], [7, 8]]
        >>> before.items[rows].tolist()
        [8, 9]
        """
        counts = np.maximum(self.lengths - shortest, 0)
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = place + np.repeat(self.ends - counts, counts)
        starts = np.repeat(self.starts, counts)
        return Histories(self.items, self.timestamps, self.events, starts, rows), rows

    @classmethod
    def of(
        cls,
        items: Sequence[Sequence[int] | Ints],
        timestamps: Sequence[Sequence[int] | Ints] | None = None,
        events: Sequence[Sequence[int] | Ints] | None = None,
    ) -> "Histories":
        """Histories from lists; timestamps default to 0 (unknown) and events to code 1."""
        ends = np.cumsum([len(row) for row in items], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(items)]
        total = int(ends[-1]) if len(items) else 0

        def flat(rows: Sequence[Sequence[int] | Ints] | None, default: int) -> NDArray[np.int64]:
            if rows is None or not total:
                return np.full(total, default, np.int64)
            return np.concatenate([np.asarray(row, np.int64) for row in rows])

        return cls(flat(items, 0), flat(timestamps, 0), flat(events, 1), starts, ends)


def window_rows(
    starts: Ints, ends: Ints, max_len: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Row numbers of the last `max_len` events of each history, and which of them are real.

    Both are (B, L) with L = min(max_len, longest history), at least 1; padding is on the right
    and points at row 0.
    """
    lengths = np.minimum(ends - starts, max_len)
    width = max(int(lengths.max(initial=0)), 1)
    column = np.arange(width)
    real = column < lengths[:, None]
    return np.where(real, (ends - lengths)[:, None] + column, 0).astype(np.int64), real


def encode_histories(
    histories: Histories,
    inputs: Sequence[str],
    max_len: int,
    item_table: Mapping[str, NDArray] | None = None,
) -> dict[str, NDArray]:
    """The named input arrays of a model for the most recent `max_len` events of each history.

    Raises KeyError for a name that is not one of this file's. An empty history is a row of 0.
    """
    marked = [name for name in inputs if BEHAVIOUR_MARK in name]
    if marked:
        return _encode_behaviours(histories, inputs, marked, max_len, item_table)
    single = len(histories) == 1 and histories.ends[0] > histories.starts[0]
    if single:  # the request path of serving: the window is a slice
        end = int(histories.ends[0])
        window = slice(max(int(histories.starts[0]), end - max_len), end)

        def gather(values: Ints) -> NDArray[np.int64]:
            return values[window].astype(np.int64)[None]
    else:
        rows, real = window_rows(histories.starts, histories.ends, max_len)

        def gather(values: Ints) -> NDArray[np.int64]:
            if not len(values):
                return np.zeros(real.shape, np.int64)
            return np.where(real, values[rows], 0).astype(np.int64)

    columns = {
        "items": histories.items,
        "events": histories.events,
        "timestamps": histories.timestamps,
    }
    encoded: dict[str, NDArray] = {}
    if any(name in TOKEN_INPUTS for name in inputs):
        encoded = encode_tokens(histories, max_len, (item_table or {})[SENTENCE])
    for name in inputs:
        if name.startswith("item."):
            table = (item_table or {})[name.removeprefix("item.")]
            encoded[name] = table[gather(histories.items)]
        elif name not in TOKEN_INPUTS:
            encoded[name] = gather(columns[name])
    return encoded


def _encode_behaviours(
    histories: Histories,
    inputs: Sequence[str],
    marked: Sequence[str],
    max_len: int,
    item_table: Mapping[str, NDArray] | None,
) -> dict[str, NDArray]:
    """`encode_histories` where some names, `marked`, are of one behaviour; in their order."""
    plain = [name for name in inputs if name not in marked]
    found = encode_histories(histories, plain, max_len, item_table) if plain else {}
    for code in dict.fromkeys(name.partition(BEHAVIOUR_MARK)[2] for name in marked):
        names = [name for name in marked if name.endswith(f"{BEHAVIOUR_MARK}{code}")]
        bases = [name.partition(BEHAVIOUR_MARK)[0] for name in names]
        part = encode_histories(histories.of_behaviour(int(code)), bases, max_len, item_table)
        found |= {name: part[base] for name, base in zip(names, bases, strict=True)}
    return {name: found[name] for name in inputs}


def encode_tokens(
    histories: Histories, max_len: int, sentences_VS: NDArray[np.int32]
) -> dict[str, NDArray]:
    """`tokens` and `token_items` of the most recent `max_len` events of each history.

    sentences_VS: (N + 1, S), row 0 empty. T is 1 + the longest history's number of tokens.
    """
    lengths_B = np.minimum(histories.ends - histories.starts, max_len)
    column_L = np.arange(max(int(lengths_B.max(initial=0)), 1))
    real_BL = column_L < lengths_B[:, None]
    items_BL = np.zeros(real_BL.shape, np.int64)
    items_BL[real_BL] = histories.items[(histories.ends[:, None] - 1 - column_L)[real_BL]]
    tokens_BLS = sentences_VS[items_BL]
    real_BLS = tokens_BLS != 0
    count_B = real_BLS.sum((1, 2))
    shape = (len(histories), 1 + int(count_B.max(initial=0)))
    filled_BT = (np.arange(shape[1]) > 0) & (np.arange(shape[1]) <= count_B[:, None])
    tokens_BT, token_items_BT = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tokens_BT[filled_BT] = tokens_BLS[real_BLS]
    token_items_BT[filled_BT] = (1 + np.nonzero(real_BLS)[1]) if filled_BT.any() else 0
    return {"tokens": tokens_BT, "token_items": token_items_BT}

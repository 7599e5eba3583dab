"""Documents varied for training: thinned, jittered, told out of order, with hidden tokens. numpy.

Every function takes the generator of its step, so that a resumed run sees the same documents.
Shape suffixes: B documents, L positions; n events.
"""

import numpy as np
from numpy.typing import NDArray

from features.life_encode import EventBlock
from features.life_layout import GENERAL, MASK
from recsys.training.life_config import LifeTraining

JITTER = 5
"""Units of the first clock, either way."""
THINNED = (0.25, 0.5)
"""Share of its events that a thinned document loses."""
MASKED_PARTS = (0.8, 0.9)
"""Below the first MASK, below the second another token, above it the token itself."""
KEPT, REVERSED, SHUFFLED = range(3)


def vary(block: EventBlock, config: LifeTraining, draw: np.random.Generator) -> EventBlock:
    """One training version of every document of a block."""
    num = len(block.background)
    lost_B = draw.uniform(*THINNED, num) * (draw.random(num) < config.thinned)
    block = _thin(block, lost_B, draw)
    shift_B = draw.integers(-JITTER, JITTER, num) * (draw.random(num) < config.jittered)
    background = np.where(
        (draw.random(num) < config.background_hidden)[:, None], 0, block.background
    )
    return EventBlock(
        block.owner,
        _shuffle_tokens(_drop_tokens(block.tokens, config.token_dropped, draw), draw),
        block.days + shift_B[block.owner],
        block.ages,
        background,
    )


def _thin(block: EventBlock, lost_B: NDArray[np.float64], draw: np.random.Generator) -> EventBlock:
    """Drop events, and move the first clock so that the first one left has the old first time."""
    if not lost_B.any():
        return block
    num = len(block.background)
    kept = draw.random(len(block.owner)) >= lost_B[block.owner]
    before = _first_days(block, num)
    thinned = block.take(kept)
    moved_B = np.where(lost_B > 0, before - _first_days(thinned, num), 0.0)
    moved_B = np.nan_to_num(moved_B)
    days = thinned.days + moved_B[thinned.owner]
    return EventBlock(thinned.owner, thinned.tokens, days, thinned.ages, thinned.background)


def _first_days(block: EventBlock, num: int) -> NDArray[np.float64]:
    """Day of each document's first event, nan where it has none."""
    first_B = np.full(num, np.nan)
    owners, rows = np.unique(block.owner, return_index=True)
    first_B[owners] = block.days[rows]
    return first_B


def _drop_tokens(tokens: NDArray, share: float, draw: np.random.Generator) -> NDArray:
    """Of some events with several tokens, one is lost."""
    hit = (draw.random(len(tokens)) < share) & ((tokens > 0).sum(1) > 1)
    rows = np.flatnonzero(hit)
    if not len(rows):
        return tokens
    order = draw.random((len(rows), tokens.shape[1])) * (tokens[rows] > 0)
    dropped = tokens.copy()
    dropped[rows, order.argmax(1)] = 0
    return dropped


def _shuffle_tokens(tokens: NDArray, draw: np.random.Generator) -> NDArray:
    """The tokens of each event in random order."""
    if tokens.shape[1] < 2:
        return tokens
    order = draw.random(tokens.shape).argsort(1)
    return np.take_along_axis(tokens, order, 1)


def reorder(
    block: EventBlock, config: LifeTraining, draw: np.random.Generator
) -> tuple[EventBlock, NDArray[np.int64]]:
    """Tell some documents backwards or shuffled; the clocks stay in place. Also the classes (B,).

    (life2vec, sequence-order prediction: the content of events moves, their times do not.)
    """
    num = len(block.background)
    chance_B = draw.random(num)
    order_B = np.where(
        chance_B < config.reversed,
        REVERSED,
        np.where(chance_B < config.reversed + config.shuffled, SHUFFLED, KEPT),
    )
    place = np.arange(len(block.owner), dtype=np.float64)
    of_event = order_B[block.owner]
    random = draw.random(len(block.owner))
    key = np.where(of_event == KEPT, place, np.where(of_event == REVERSED, -place, random))
    told = np.lexsort([key, block.owner])
    moved = EventBlock(block.owner, block.tokens[told], block.days, block.ages, block.background)
    return moved, order_B.astype(np.int64)


def mask_tokens(
    tokens_BL: NDArray[np.int64], num_tokens: int, share: float, draw: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The tokens with some hidden, and the hidden ones at their positions, 0 elsewhere.

    Never CLS, SEP, unknown or padding. Of each document floor(share x its tokens) are chosen, at
    most all that may be.
    """
    eligible_BL = tokens_BL >= len(GENERAL)
    wanted_B = np.floor(share * (tokens_BL > 0).sum(1)).astype(np.int64)
    key_BL = np.where(eligible_BL, draw.random(tokens_BL.shape), 2.0)
    rank_BL = key_BL.argsort(1).argsort(1)
    chosen_BL = eligible_BL & (rank_BL < wanted_B[:, None])
    fate_BL = draw.random(tokens_BL.shape)
    other_BL = draw.integers(len(GENERAL), max(num_tokens, len(GENERAL) + 1), tokens_BL.shape)
    shown_BL = np.where(
        fate_BL < MASKED_PARTS[0],
        MASK,
        np.where(fate_BL < MASKED_PARTS[1], other_BL, tokens_BL),
    )
    return np.where(chosen_BL, shown_BL, tokens_BL), np.where(chosen_BL, tokens_BL, 0)

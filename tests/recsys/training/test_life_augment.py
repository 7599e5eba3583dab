"""Variations of documents: shares of what is hidden, told out of order, thinned and shifted."""

import numpy as np
import pytest

from features.life_encode import EventBlock, assemble
from features.life_layout import GENERAL, MASK, SEP
from recsys.training.life_augment import KEPT, REVERSED, SHUFFLED, mask_tokens, reorder, vary
from recsys.training.life_config import LifeTraining

NUM_TOKENS, EVENTS = 60, 12
STILL = LifeTraining(thinned=0.0, jittered=0.0, background_hidden=0.0, token_dropped=0.0)


def block_of(num: int, seed: int = 0) -> EventBlock:
    draw = np.random.default_rng(seed)
    count = num * EVENTS
    owner = np.repeat(np.arange(num), EVENTS)
    tokens = draw.integers(len(GENERAL), NUM_TOKENS, (count, 3)).astype(np.int32)
    tokens[:, 2] *= draw.random(count) < 0.5
    days = np.tile(np.arange(1, EVENTS + 1) * 10.0, num)
    background = np.full((num, 2), 7, np.int32)
    return EventBlock(owner, tokens, days, days / 365, background)


def test_of_the_hidden_tokens_80_10_10_are_masked_changed_kept() -> None:
    """30 % of a document's tokens; never CLS, SEP, unknown or padding (section 9, 5)."""
    tokens = assemble(block_of(400), 512)["tokens"]
    shown, hidden = mask_tokens(tokens, NUM_TOKENS, 0.3, np.random.default_rng(0))
    chosen = hidden > 0
    assert (tokens[chosen] >= len(GENERAL)).all()
    np.testing.assert_array_equal(hidden[chosen], tokens[chosen])
    np.testing.assert_array_equal(shown[~chosen], tokens[~chosen])
    wanted = np.floor(0.3 * (tokens > 0).sum(1))
    np.testing.assert_array_equal(chosen.sum(1), wanted)
    shares = [
        (shown[chosen] == MASK).mean(),
        ((shown[chosen] != MASK) & (shown[chosen] != tokens[chosen])).mean(),
        (shown[chosen] == tokens[chosen]).mean(),
    ]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def test_orders_occur_at_their_rates_and_clocks_stay() -> None:
    """.90 kept, .05 reversed, .05 shuffled; only the content of events moves (section 9, 5)."""
    block = block_of(4_000)
    told, order = reorder(block, STILL, np.random.default_rng(0))
    shares = np.bincount(order, minlength=3) / len(order)
    assert shares.tolist() == pytest.approx([0.9, 0.05, 0.05], abs=0.01)
    np.testing.assert_array_equal(told.days, block.days)
    before = block.tokens.reshape(-1, EVENTS, 3)
    after = told.tokens.reshape(-1, EVENTS, 3)
    np.testing.assert_array_equal(after[order == KEPT], before[order == KEPT])
    np.testing.assert_array_equal(after[order == REVERSED], before[order == REVERSED][:, ::-1])
    moved = after[order == SHUFFLED]
    assert (moved != before[order == SHUFFLED]).any()
    np.testing.assert_array_equal(
        np.sort(moved.reshape(len(moved), -1)),
        np.sort(before[order == SHUFFLED].reshape(len(moved), -1)),
    )


def test_thinned_documents_lose_a_quarter_to_half_and_start_on_their_old_first_day() -> None:
    """Section 9, 8: resampled documents start at day 1 (here 10, the first day of each)."""
    config = LifeTraining(thinned=1.0, jittered=0.0, background_hidden=0.0, token_dropped=0.0)
    found = vary(block_of(2_000), config, np.random.default_rng(0))
    left = np.bincount(found.owner, minlength=2_000) / EVENTS
    assert left.mean() == pytest.approx(0.625, abs=0.02)
    _, first = np.unique(found.owner, return_index=True)
    assert (found.days[first] == 10.0).all()


def test_jitter_moves_whole_documents_by_less_than_five_units() -> None:
    config = LifeTraining(thinned=0.0, jittered=1.0, background_hidden=0.0, token_dropped=0.0)
    block = block_of(500)
    shift = vary(block, config, np.random.default_rng(0)).days - block.days
    assert set(np.unique(shift)) == set(range(-5, 5))
    assert all(len(set(row)) == 1 for row in shift.reshape(-1, EVENTS))


def test_background_is_hidden_and_tokens_dropped_at_their_rates() -> None:
    config = LifeTraining(thinned=0.0, jittered=0.0, background_hidden=0.3, token_dropped=0.2)
    block = block_of(3_000)
    found = vary(block, config, np.random.default_rng(0))
    assert (found.background == 0).all(1).mean() == pytest.approx(0.3, abs=0.03)
    lost = (block.tokens > 0).sum(1) - (found.tokens > 0).sum(1)
    assert set(np.unique(lost)) == {0, 1}
    assert lost.mean() == pytest.approx(0.2, abs=0.02)


def test_shuffled_tokens_stay_in_their_event() -> None:
    block = block_of(50)
    found = vary(block, STILL, np.random.default_rng(0))
    assert (found.tokens != block.tokens).any()
    np.testing.assert_array_equal(np.sort(found.tokens, 1), np.sort(block.tokens, 1))


def test_a_step_has_one_version_of_a_document() -> None:
    draws = [np.random.default_rng([0, 7, 0]) for _ in range(2)]
    first, second = (vary(block_of(20), LifeTraining(), draw) for draw in draws)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    np.testing.assert_array_equal(first.days, second.days)
    assert SEP not in first.tokens

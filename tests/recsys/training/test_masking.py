"""Masked tokens: whole words, the share that was asked for, and nothing but words."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from recsys.training.masking import Masking

PIECES = ["[PAD]", "[UNK]", "red", "##dish", "blue", "##ish", "ba", "##g"]
RED, DISH, BLUE, ISH, BA, G = range(2, 8)


@pytest.fixture
def masking() -> Masking:
    vocabulary = {token: number for number, token in enumerate(PIECES)}
    return Masking.of(Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")), 8, 0, 0.3)


def test_words_end_where_a_token_begins_one_and_where_name_or_item_change(
    masking: Masking,
) -> None:
    tokens = torch.tensor([[0, -BA, -G, G, RED, DISH, ISH, -BA, G, 0]])
    items = torch.tensor([[0, 1, 1, 1, 1, 1, 2, 2, 2, 0]])
    #           [CLS] bag(name) g reddish ish(other item) ba(name) g(value) padding
    assert masking.words(tokens, items).tolist() == [[1, 2, 2, 3, 4, 4, 5, 6, 7, 8]]


def test_byte_level_words_begin_with_a_space() -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "Ġred": 2, "dish": 3}
    masking = Masking.of(Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")), 5, 1, 0.3)
    assert masking.begins_word.tolist() == [True, False, False, True, False]  # ids are shifted


def test_masking_hides_whole_words_at_the_share(masking: Masking) -> None:
    draw = torch.Generator().manual_seed(0)
    tokens = torch.tensor([[0, *[RED, DISH, -BLUE, -ISH] * 50, 0, 0]]).expand(40, -1)
    items = (tokens != 0).long()
    shown, named = masking.mask(tokens, items, draw)
    hidden = named > 0
    assert torch.equal(hidden[:, 1:201:2], hidden[:, 2:201:2])
    assert torch.equal(named[hidden], tokens[hidden].abs())
    assert not hidden[:, 0].any()
    assert not hidden[:, 201:].any()
    assert torch.equal(shown[~hidden], tokens[~hidden])
    assert torch.equal(shown.sign(), tokens.sign())
    assert hidden[:, 1:201].float().mean().item() == pytest.approx(0.3, abs=0.03)
    replaced = shown[hidden].abs()
    assert (replaced == 9).float().mean().item() == pytest.approx(0.8, abs=0.03)  # [MASK]
    kept = (replaced == tokens[hidden].abs()).float().mean().item()
    assert kept == pytest.approx(0.1 + 0.1 / 7, abs=0.03)


def test_something_is_hidden_wherever_there_is_a_token(masking: Masking) -> None:
    rare = Masking(masking.begins_word, 1e-9)
    draw = torch.Generator().manual_seed(0)
    tokens, items = torch.tensor([[0, 0, 0], [0, RED, DISH]]), torch.tensor([[0, 0, 0], [0, 1, 1]])
    _, named = rare.mask(tokens, items, draw)
    assert named.tolist() == [[0, 0, 0], [0, RED, 0]]
    _, nothing = rare.mask(tokens[:1], items[:1], draw)
    assert not nothing.any()

"""The tokenizer: deterministic, no unknown tokens, and honest about where it comes from."""

import subprocess
import sys

import numpy as np

from features.text import alien_tokens, encode_texts, fit_tokenizer

TITLES = ["Red wool shirt", "red linen shirt", "Blue wool trousers", "blue linen trousers"] * 5


def test_texts_come_back_from_their_tokens() -> None:
    tokenizer = fit_tokenizer(TITLES, 400)
    tokens = encode_texts(tokenizer, [*TITLES, "Ünknown 🎈 word"], len(TITLES) + 1, 99)
    assert tokenizer.decode(tokens[0].tolist()).strip() == "red wool shirt"
    assert tokenizer.decode(tokens[-1].tolist()).strip() == "ünknown 🎈 word"
    assert 1 not in tokens  # [UNK] is never needed


def test_width_is_fitted_cut_and_padded_on_the_right() -> None:
    tokenizer = fit_tokenizer(TITLES, 400)
    texts = ["red", None, "", "red wool shirt", "red wool shirt blue linen trousers"]
    tokens = encode_texts(tokenizer, texts, 4, 99)
    assert tokens.shape == (5, 3)  # the last text is not among the four fitted, and is cut
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens[1:3], 0)
    np.testing.assert_array_equal(tokens[4], tokens[3])
    np.testing.assert_array_equal(tokens[0, 1:], 0)
    assert encode_texts(tokenizer, texts, 4, 2).shape == (5, 2)
    assert encode_texts(tokenizer, [None], 1, 9).tolist() == [[0]]


def test_tokens_of_other_texts_are_found_out() -> None:
    tokenizer = fit_tokenizer([*TITLES, *["velvet gloves"] * 3], 500)
    assert alien_tokens(tokenizer, [*TITLES, "velvet gloves"]) == []
    assert "Ġvelvet" in alien_tokens(tokenizer, TITLES)


def test_two_processes_make_the_same_tokenizer() -> None:
    code = (
        "from features.text import fit_tokenizer; import random; r = random.Random(0)\n"
        "texts = [''.join(r.choices('abcdefg hij', k=40)) for _ in range(500)]\n"
        "print(fit_tokenizer(texts, 900).to_str())"
    )
    run = [sys.executable, "-c", code]
    first, second = (subprocess.run(run, check=True, capture_output=True) for _ in range(2))
    assert first.stdout == second.stdout
    assert len(first.stdout) > 10_000

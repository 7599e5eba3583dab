"""The encoder against its definition, token by token, and against published implementations."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from recsys.models.bert_weights import Numbering, convert
from recsys.models.sentence_encoder import Block, SentenceEncoder

PUBLISHED = Path(__file__).with_name("published_encoders.safetensors")
"""Weights, inputs and outputs of transformers 4.46.3: LongformerModel and BertModel."""
LENGTHS = (1, 2, 7, 30, 75)


@dataclass(frozen=True)
class Sizes:
    max_len: int = 12
    max_tokens: int = 80
    dim: int = 16
    num_blocks: int = 2
    num_heads: int = 2
    hidden: int = 32
    window: int = 4
    dropout: float = 0.0
    norm_epsilon: float = 1e-5


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return load_file(PUBLISHED)


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}


def longformer(published: dict[str, Tensor]) -> SentenceEncoder:
    encoder = SentenceEncoder(Sizes(), 40).eval()
    numbering = Numbering(cls=0, mask=3, first_position=2)
    state = convert(part(published, "longformer."), encoder, numbering)
    encoder.load_state_dict(state | {"embeddings.item.weight": published["item_positions"]})
    return encoder


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_published_longformer(published: dict[str, Tensor], length: int) -> None:
    encoder, case = longformer(published), part(published, f"case.{length}.")
    with torch.inference_mode():
        states = encoder.states(case["tokens"], case["items"])
        first = encoder(case["tokens"], case["items"])
    real = ((case["items"] > 0) | (torch.arange(length) == 0))[..., None]
    torch.testing.assert_close(states * real, case["longformer"], atol=3e-6, rtol=0)
    assert (unit(first) - unit(case["longformer"][:, 0])).abs().max() < 1e-6


@pytest.mark.parametrize("length", LENGTHS)
def test_with_a_wide_window_it_starts_as_bert(published: dict[str, Tensor], length: int) -> None:
    sizes = replace(Sizes(), window=80, norm_epsilon=1e-12)
    encoder, case = SentenceEncoder(sizes, 40).eval(), part(published, f"case.{length}.")
    state = convert(part(published, "bert."), encoder, Numbering(cls=2, mask=3))
    state["embeddings.item.weight"].zero_()
    encoder.load_state_dict(state)
    with torch.inference_mode():
        first = encoder(case["tokens"], case["items"])
    assert (unit(first) - unit(case["bert"][:, 0])).abs().max() < 1e-6


def attention_by_loops(block: Block, x_TD: Tensor, window: int) -> Tensor:
    """Longformer's attention of one sequence without padding; head by head, token by token."""
    d = x_TD.size(1)
    query, key, value = block.query_key_value(x_TD).chunk(3, dim=1)
    global_query = block.global_query(x_TD[0])
    global_key, global_value = block.global_key(x_TD), block.global_value(x_TD)
    rows = []
    for t in range(len(x_TD)):
        heads = []
        for h in (slice(0, d // 2), slice(d // 2, d)):
            if t == 0:
                seen, q, k, v = range(len(x_TD)), global_query, global_key, global_value
            else:
                seen = [s for s in range(len(x_TD)) if s == 0 or abs(s - t) <= window]
                q, k, v = query[t], key, value
            weights = torch.stack([torch.exp(q[h] @ k[s, h] / math.sqrt(d / 2)) for s in seen])
            heads.append(weights @ torch.stack([v[s, h] for s in seen]) / weights.sum())
        rows.append(torch.cat(heads))
    return torch.stack(rows)


@pytest.mark.parametrize("window", [1, 4, 50])
def test_a_block_equals_its_definition(window: int) -> None:
    torch.manual_seed(window)
    block, x_BTD = Block(Sizes()).eval(), torch.randn(2, 11, 16)
    for parameter in block.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    position = torch.arange(11)
    seen = ((position[:, None] - position).abs() <= window) | (position == 0)
    out = block(x_BTD, seen.expand(2, -1, -1), torch.ones(2, 11, dtype=torch.bool))
    mixed = torch.stack([attention_by_loops(block, x_TD, window) for x_TD in x_BTD])
    torch.testing.assert_close(out, block.transform(x_BTD, mixed), atol=1e-5, rtol=1e-5)
    first = block.first(x_BTD, torch.ones(2, 11, dtype=torch.bool))
    torch.testing.assert_close(first, out[:, 0])


def test_padding_does_not_matter(published: dict[str, Tensor]) -> None:
    encoder, case = longformer(published), part(published, "case.30.")
    wide = [torch.nn.functional.pad(case[name], (0, 17)) for name in ("tokens", "items")]
    with torch.inference_mode():
        expected = unit(encoder(case["tokens"], case["items"]))
        assert (unit(encoder(*wide)) - expected).abs().max() < 1e-6
        alone = encoder(case["tokens"][1:2, :15], case["items"][1:2, :15])
        assert (unit(alone) - expected[1:2]).abs().max() < 1e-6


def test_tokens_beyond_the_longest_sequence_are_cut(published: dict[str, Tensor]) -> None:
    encoder = longformer(published)
    tokens = torch.randint(4, 40, (2, 120))
    items = torch.ones(2, 120, dtype=torch.long)
    items[:, 0] = 0
    changed = tokens.clone()
    changed[:, 80:] = 5
    with torch.inference_mode():
        assert torch.equal(encoder(tokens, items), encoder(changed, items))
        assert not torch.equal(encoder(tokens[:, :79], items[:, :79]), encoder(tokens, items))


def test_names_and_values_and_items_are_told_apart(published: dict[str, Tensor]) -> None:
    encoder = longformer(published)
    encoder.embeddings.kind.weight.data += torch.randn(3, 16)
    tokens, items = torch.tensor([[0, 9, 9, 9]]), torch.tensor([[0, 1, 1, 1]])
    with torch.inference_mode():
        plain = encoder(tokens, items)
        assert not torch.allclose(encoder(torch.tensor([[0, -9, 9, 9]]), items), plain, atol=1e-3)
        assert not torch.allclose(encoder(tokens, torch.tensor([[0, 1, 1, 2]])), plain, atol=1e-3)


def test_weights_of_another_shape_are_refused(published: dict[str, Tensor]) -> None:
    weights, numbering = part(published, "longformer."), Numbering(cls=0, mask=3)
    for sizes, said in (
        (replace(Sizes(), hidden=64), "set dim, hidden, num_heads and max_tokens"),
        (replace(Sizes(), num_blocks=1), "more than num_blocks = 1 blocks"),
        (replace(Sizes(), num_blocks=3), "encoder.layer.2.attention.self.query.weight is missing"),
        (replace(Sizes(), max_tokens=90), "embeddings.position.weight is"),
    ):
        with pytest.raises(ValueError, match=said):
            convert(weights, SentenceEncoder(sizes, 40), numbering)
    with pytest.raises(ValueError, match="expected a model of BERT's shape"):
        convert({"w": torch.ones(1)}, SentenceEncoder(Sizes(), 40), numbering)
    with pytest.raises(ValueError, match="the tokenizer has 50 tokens, the word table 40 rows"):
        convert(weights, SentenceEncoder(Sizes(), 50), numbering)


def test_ids_that_the_dataset_shifts_find_their_words(published: dict[str, Tensor]) -> None:
    encoder = SentenceEncoder(Sizes(), 41)
    weights = part(published, "longformer.")
    word = weights["embeddings.word_embeddings.weight"]
    state = convert(weights, encoder, Numbering(cls=0, mask=3, offset=1))
    table = state["embeddings.word.weight"]
    assert torch.equal(table[1:41], word)
    assert torch.equal(table[41:], word[[0, 3]])

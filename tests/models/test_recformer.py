"""Recformer's vectors, its batches of like lengths, and its pre-training losses by definition."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.models import bucketed
from recsys.models.bucketed import encode_sentences, encode_tokens
from recsys.models.contrast import Contrast, contrast, name_masked
from recsys.models.interface import Column, HistoryBatch, ItemBatch
from recsys.models.recformer import Recformer, RecformerConfig

COLUMNS = (Column(name="sentence", kind="sentence", size=30, width=6),)


def small(**options: object) -> Recformer:
    torch.manual_seed(0)
    sizes = {"dim": 16, "num_blocks": 2, "num_heads": 2, "hidden": 32, "max_tokens": 40}
    return Recformer(RecformerConfig(columns=COLUMNS, **{**sizes, **options})).eval()


def random_sentences(num: int, width: int = 6) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    length = torch.randint(0, width + 1, (num, 1), generator=draw)
    tokens = torch.randint(1, 30, (num, width), generator=draw, dtype=torch.int32)
    tokens[:, 0] *= -1
    return tokens * (torch.arange(width) < length)


def test_buckets_do_not_change_a_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sentences = small(), random_sentences(50)
    with torch.inference_mode():
        whole = encode_sentences(model.encoder, sentences)
        monkeypatch.setattr(bucketed, "CPU_TOKENS", 20)
        apart = encode_sentences(model.encoder, sentences)
        alone = torch.cat([encode_sentences(model.encoder, row[None]) for row in sentences])
    assert (whole - apart).abs().max() < 1e-6
    assert (whole - alone).abs().max() < 1e-6
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(50))


def test_an_item_is_a_history_of_itself() -> None:
    model, sentences = small(), random_sentences(4)
    model.freeze_items()
    tokens = F.pad(sentences.long(), (1, 0))
    batch = HistoryBatch.of({"tokens": tokens, "token_items": (tokens != 0).long()})
    with torch.inference_mode():
        items = model.encode_items(ItemBatch(torch.arange(4), {"sentence": sentences}))
        torch.testing.assert_close(model.encode_history(batch), items)


def test_items_keep_the_weights_they_were_frozen_with() -> None:
    model, batch = small(), ItemBatch(torch.arange(5), {"sentence": random_sentences(5)})
    with torch.no_grad():
        before = model.encode_items(batch)
        for parameter in model.encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        assert torch.equal(model.encode_items(batch), before)
        model.freeze_items()
        assert not torch.allclose(model.encode_items(batch), before, atol=1e-3)
    assert not any(parameter.requires_grad for parameter in model.item_encoder.parameters())


@pytest.mark.parametrize("masked_tokens", [False, True])
def test_every_trained_weight_gets_a_gradient(masked_tokens: bool) -> None:
    model, sentences = small(), F.pad(random_sentences(6).long(), (1, 0))
    model.train_only(words=True, masked_tokens=masked_tokens)
    items = (sentences != 0).long()
    masked = (sentences, sentences.abs()) if masked_tokens else None
    batch = Contrast(sentences, items, sentences.flip(0), torch.arange(6), masked, masked)
    loss = model.pretraining_loss(batch, lambda x: x, masked_weight=0.1, keep_duplicates=False)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_contrast_by_definition() -> None:
    torch.manual_seed(0)
    states, items = torch.randn(4, 3), torch.randn(6, 3)
    ids = torch.tensor([7, 8, 7, 9, 8, 5])
    total = 0.0
    for b in range(4):
        rivals = [c for c in range(6) if c == b or ids[c] != ids[b]]
        scores = torch.stack([states[b] @ items[c] for c in rivals])
        total -= scores.log_softmax(0)[rivals.index(b)].item()
    assert contrast(states, items, ids).item() == pytest.approx(total / 4, rel=1e-5)
    plain = F.cross_entropy(states @ items.T, torch.arange(4))
    torch.testing.assert_close(contrast(states, items, torch.arange(6)), plain)


def test_masked_tokens_by_definition() -> None:
    model, tokens = small(), F.pad(random_sentences(5).long(), (1, 0))
    items = (tokens != 0).long()
    named = torch.zeros_like(tokens)
    named[2, 1:3] = torch.tensor([4, 9])
    found = name_masked(model.encoder, model.masked_tokens, (tokens, named), items)
    states = model.masked_tokens(model.encoder.states(tokens, items)[2, 1:3])
    expected = F.cross_entropy(states @ model.encoder.embeddings.word.weight.T, named[2, 1:3])
    torch.testing.assert_close(found, expected)
    none = name_masked(model.encoder, model.masked_tokens, (tokens, named * 0), items)
    assert none.item() == 0


def test_constant_vectors_are_a_tie_and_not_a_hit() -> None:
    tokens = torch.zeros(3, 1, dtype=torch.long)
    vectors = encode_tokens(small().encoder, tokens, tokens)
    assert torch.isfinite(vectors).all()
    torch.testing.assert_close(vectors, vectors[:1].expand(3, -1))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the dataset has no item sentences"):
        RecformerConfig(columns=())
    with pytest.raises(ValueError, match="dim=10 is not a multiple of num_heads=3"):
        RecformerConfig(columns=COLUMNS, dim=10, num_heads=3)
    with pytest.raises(ValueError, match="max_tokens=1 must be at least 2"):
        RecformerConfig(columns=COLUMNS, max_tokens=1)

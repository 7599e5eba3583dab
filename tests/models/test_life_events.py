"""The life-event transformer itself: its start, its clocks, pre-training, and planted rules."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from offline_eval.probabilities import auc_by_group
from recsys.models.life_events import LifeEvents, LifeEventsConfig
from recsys.models.outcome_interface import LifeBatch

NUM_TOKENS, CLS, SEP, X, Y = 36, 1, 2, 5, 6
EVENTS = 24
SIZES = {"dim": 40, "feed_forward": 160, "window": 8, "features": 64}


def model_of(seed: int = 0, **options: object) -> LifeEvents:
    torch.manual_seed(seed)
    sizes = {"num_tokens": NUM_TOKENS, "num_prefix": 1, **SIZES, **options}
    return LifeEvents(LifeEventsConfig(**sizes))  # type: ignore[arg-type]


def document_of(events_BE: np.ndarray, days_BE: np.ndarray) -> LifeBatch:
    """CLS SEP, then each event's token and a SEP."""
    num, count = events_BE.shape
    length = 2 + 2 * count
    tokens = np.full((num, length), SEP)
    tokens[:, 0], tokens[:, 2::2] = CLS, events_BE
    days = np.zeros((num, length), np.float32)
    days[:, 2::2] = days[:, 3::2] = days_BE
    segments = np.ones((num, length), np.int64)
    segments[:, 2::2] = segments[:, 3::2] = np.array([2, 3, 1])[np.arange(count) % 3]
    years = (days / 365.25 + 40).astype(np.float32)
    return LifeBatch(*map(torch.from_numpy, (tokens, days, years, segments)))


def planted(rule: str, num: int, seed: int, length: int = EVENTS) -> tuple[LifeBatch, Tensor]:
    """Logs of random tokens where only the rule decides the label (specification, section 9)."""
    draw = np.random.default_rng(seed)
    events = draw.integers(7, NUM_TOKENS, (num, length))
    gaps = draw.integers(5, 60, (num, length))
    label, row = draw.integers(0, 2, num), np.arange(num)
    if rule == "order":
        first, second = np.sort(draw.random((num, length)).argsort(1)[:, :2], axis=1).T
        events[row, first] = np.where(label, X, Y)
        events[row, second] = np.where(label, Y, X)
    elif rule == "gap":
        place = draw.integers(0, length - 1, num)
        events[row, place], events[row, place + 1] = X, Y
        gaps[row, place + 1] = np.where(
            label, draw.integers(1, 31, num), draw.integers(200, 400, num)
        )
    else:
        events[row, draw.integers(0, length, num)] = np.where(label, X, Y)
    return document_of(events, gaps.cumsum(1)), torch.from_numpy(label).float()


def pick(batch: LifeBatch, rows: Tensor) -> LifeBatch:
    return LifeBatch(*(x[rows] for x in (batch.tokens, batch.days, batch.ages, batch.segments)))


def trained(model: LifeEvents, train: tuple[LifeBatch, Tensor], steps: int) -> LifeEvents:
    batch, label = train
    rate = 5e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for step in range(steps):
        rows = torch.randint(0, len(label), (64,))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100) * (1 - 0.9 * step / steps)
        loss = model.loss(replace(pick(batch, rows), labels=label[rows, None]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def auc(labels: Tensor, scores: np.ndarray) -> float:
    groups = np.zeros(len(labels), np.int64)
    return float(auc_by_group(labels.numpy() > 0, scores.astype(np.float64), groups)[0][0])


def scores_of(model: LifeEvents, batch: LifeBatch) -> np.ndarray:
    with torch.inference_mode():
        return model.eval().predict(batch)[0][:, 0].numpy()


def bag_of_tokens(train: tuple[LifeBatch, Tensor], test: LifeBatch) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    def counts(batch: LifeBatch) -> np.ndarray:
        return np.stack([np.bincount(row, minlength=NUM_TOKENS) for row in batch.tokens.numpy()])

    fitted = LogisticRegression(max_iter=1000).fit(counts(train[0]), train[1].numpy())
    return fitted.predict_proba(counts(test))[:, 1]


def without_clocks(batch: LifeBatch) -> LifeBatch:
    return replace(batch, days=batch.days * 0, ages=batch.ages * 0, segments=batch.segments * 0 + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "bag"), [("occurs", (0.99, 1.0)), ("order", (0.4, 0.6)), ("gap", (0.4, 0.6))]
)
def test_planted_rules(rule: str, bag: tuple[float, float]) -> None:
    """The specification's table; `-s` prints it."""
    torch.set_num_threads(1)
    train, (test, label) = planted(rule, 4000, 0), planted(rule, 1000, 1)
    steps = 200 if rule == "occurs" else 800
    ours = auc(label, scores_of(trained(model_of(dropout=0.0), train, steps), test))
    simple = auc(label, bag_of_tokens(train, test))
    blind_train = (without_clocks(train[0]), train[1])
    one_block = {"window": 64}  # a finer window betrays order, coarsely
    blind = trained(model_of(**one_block), blind_train, 300)
    off = auc(label, scores_of(blind, without_clocks(test)))
    print(f"\n{rule:8} bag of tokens {simple:.3f}  life2vec {ours:.3f}  clocks off {off:.3f}")
    assert ours > 0.95
    assert bag[0] <= simple <= bag[1]
    assert bag[0] <= off <= bag[1]


def test_order_is_learned_where_a_bag_of_tokens_is_at_chance() -> None:
    """The quick version of the table's second line: short documents, a small model."""
    torch.set_num_threads(1)
    train, (test, label) = planted("order", 2000, 0, 6), planted("order", 400, 1, 6)
    sizes = {"num_blocks": 1, "dim": 32, "feed_forward": 64, "features": 16}
    found = trained(model_of(dropout=0.0, **sizes), train, 250)
    assert auc(label, scores_of(found, test)) > 0.9
    assert auc(label, bag_of_tokens(train, test)) < 0.6


def test_at_the_start_the_encoder_returns_the_centred_token_vectors() -> None:
    model = model_of().eval()
    batch, _ = planted("order", 3, 0)
    centred = model.embedding.token.centred()
    states = model.encode(model.embedding(batch), batch.real)
    torch.testing.assert_close(states, centred[batch.tokens])
    torch.testing.assert_close(centred[1:].mean(0), torch.zeros(40), rtol=0, atol=1e-7)


def test_at_the_start_only_gates_table_and_what_follows_the_encoder_learn() -> None:
    """ReZero: what lies behind a gate of zero gets no gradient, so alarms on it would misfire."""
    model = model_of(dropout=0.0)
    batch, label = planted("order", 8, 0)
    model.loss(replace(batch, labels=label[:, None])).backward()
    moved = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    inside = {name for name in moved if name.startswith(("blocks.", "embedding."))}
    assert all("scale_" in name or name == "embedding.token.weight" for name in inside)
    assert "embedding.token.weight" in inside


def test_time_is_seen_and_the_prefix_has_none() -> None:
    model = model_of().eval()
    with torch.no_grad():
        model.embedding.scale_day.fill_(1.0)
        model.embedding.scale_age.fill_(1.0)
    batch, _ = planted("order", 2, 0)
    later = replace(batch, days=batch.days + 100, ages=batch.ages + 1)
    before, after = model.embedding(batch), model.embedding(later)
    assert torch.equal(before[:, 0], after[:, 0])  # CLS
    assert not torch.equal(before[:, 1], after[:, 1])  # the first SEP has the day-0 vector


def test_without_clocks_only_the_windows_tell_order() -> None:
    """No index position: with one block of local attention the stack is permutation-equivariant."""
    model = model_of(window=64).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.scale_attention.fill_(0.7)
            block.scale_feed_forward.fill_(0.7)
    batch = without_clocks(planted("order", 4, 0)[0])
    shuffled = replace(batch, tokens=batch.tokens[:, torch.randperm(batch.tokens.size(1))])
    torch.testing.assert_close(model.predict(batch)[1], model.predict(shuffled)[1])


def test_masked_tokens_that_another_field_decides_are_guessed_and_others_are_not() -> None:
    """Field B is a function of field A: after pre-training a masked B is known (section 9, 6)."""
    draw = np.random.default_rng(0)
    model = model_of(window=8, dropout=0.0, dim=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)

    def batch_of(num: int) -> LifeBatch:
        a = draw.integers(5, 13, (num, EVENTS // 2))
        b, c = a + 8, draw.integers(21, 25, a.shape)  # decided; one of four by chance
        tokens = np.full((num, 2 + 2 * EVENTS), SEP)
        tokens[:, 0], tokens[:, 2::4], tokens[:, 3::4], tokens[:, 4::4] = CLS, a, b, c
        days = np.zeros(tokens.shape, np.float32)
        days[:, 2:] = np.repeat(np.arange(1, EVENTS // 2 + 1) * 20, 4)
        segments = np.ones(tokens.shape, np.int64)
        segments[:, 2:] = np.repeat(np.array([2, 3, 1])[np.arange(EVENTS // 2) % 3], 4)
        shown, masked = tokens.copy(), np.zeros_like(tokens)
        hidden = (draw.random(tokens.shape) < 0.3) & (tokens >= 13)
        masked[hidden], shown[hidden] = tokens[hidden], 3
        tensors = (shown, days, days / 365, segments)
        orders = torch.zeros(num, dtype=torch.long)
        life = LifeBatch(*(torch.from_numpy(x) for x in tensors))
        return replace(life, masked=torch.from_numpy(masked), orders=orders)

    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 2e-2 * min(1, (step + 1) / 50) * (1 - 0.9 * step / 600)
        loss = model.pretraining_loss(batch_of(24))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    batch = batch_of(200)
    assert batch.masked is not None
    with torch.no_grad():
        states = model.encode(model.embedding(batch), batch.real).flatten(0, 1)
    target = batch.masked.flatten()
    guess = model.token_logits(states).argmax(1)
    decided, chance = (target >= 13) & (target < 21), target >= 21
    assert (guess == target)[decided].float().mean() > 0.95
    assert (guess == target)[chance].float().mean() == pytest.approx(0.25, abs=0.06)


def test_published_size_has_the_published_number_of_parameters() -> None:
    config = LifeEventsConfig(
        num_tokens=2043,
        num_prefix=5,
        max_len=2560,
        dim=280,
        feed_forward=2210,
        num_blocks=5,
        num_heads=10,
        local_heads=7,
        features=436,
    )
    model = LifeEvents(config)
    encoder = [*model.embedding.parameters(), *model.blocks.parameters()]
    assert sum(p.numel() for p in encoder) == pytest.approx(8.34e6, rel=0.002)

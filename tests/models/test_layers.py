import pytest
import torch

from recsys.models.layers import Dropout


def test_dropout_keeps_the_mean_and_its_rate() -> None:
    torch.manual_seed(0)
    x = torch.ones(1_000, 333)
    dropped = Dropout(0.2)(x)
    rate = round(0.2 * 256) / 256
    values = dropped.unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / (1 - rate)]))
    error = 4 * 0.5 / x.numel() ** 0.5
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=error)
    assert dropped.mean().item() == pytest.approx(1, abs=2 * error)
    for part in (dropped[:, :8], dropped[:500], dropped[:, 7::8]):  # no byte is special
        share = (part == 0).float().mean().item()
        assert share == pytest.approx(rate, abs=4 * 0.5 / part.numel() ** 0.5)


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 7, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y != 0) * 2.0)


def test_evaluation_mode_and_rate_0_change_nothing() -> None:
    x = torch.randn(3, 4)
    assert Dropout(0.0)(x) is x
    assert Dropout(0.9).eval()(x) is x


def test_the_seed_decides() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(Dropout(0.5)(torch.ones(64)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_rate_of_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dropout=1.0 is not in 0\.\.1"):
        Dropout(1.0)

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recsys.models.interface import HistoryBatch
from recsys.models.sasrec import Block, SASRec, SASRecConfig

CONFIG = SASRecConfig(num_items=9, max_len=6, dim=8, num_heads=2, dropout=0.0)


def attention_by_loops(block: Block, x_LD: Tensor) -> Tensor:
    """Causal attention of one history, position by position and head by head."""
    query, key, value = block.query_key_value(x_LD).chunk(3, dim=1)
    width, rows = 4, []
    for t in range(len(x_LD)):
        heads = []
        for h in (slice(0, width), slice(width, 2 * width)):
            weights = [torch.exp(query[t, h] @ key[s, h] / math.sqrt(width)) for s in range(t + 1)]
            mixed = sum(w * value[s, h] for s, w in enumerate(weights))
            heads.append(torch.as_tensor(mixed) / sum(weights))
        rows.append(torch.cat(heads))
    return block.attention_out(torch.stack(rows))


def test_attention_equals_its_definition() -> None:
    torch.manual_seed(0)
    block, x_BLD = Block(CONFIG), torch.randn(3, 6, 8)
    expected = torch.stack([attention_by_loops(block, x_LD) for x_LD in x_BLD])
    torch.testing.assert_close(block.attend(x_BLD), expected)


def test_states_do_not_see_later_items() -> None:
    torch.manual_seed(0)
    model, items = SASRec(CONFIG).eval(), torch.tensor([[1, 2, 3, 4, 5, 6]])
    changed = torch.tensor([[1, 2, 3, 9, 8, 7]])
    torch.testing.assert_close(model(items)[:, :3], model(changed)[:, :3])
    assert not torch.isclose(model(items)[:, 3:], model(changed)[:, 3:]).all(-1).any()


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_a_history_is_the_state_at_its_last_event(num_blocks: int) -> None:
    torch.manual_seed(0)
    model = SASRec(replace(CONFIG, num_blocks=num_blocks)).eval()
    items = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0], [0] * 6, [9, 0, 0, 0, 0, 0]])
    states = model(items)[torch.arange(4), torch.tensor([5, 1, 0, 0])]
    torch.testing.assert_close(model.encode_history(HistoryBatch(items=items)), states)


def test_the_order_of_items_matters() -> None:
    torch.manual_seed(0)
    model = SASRec(CONFIG).eval()
    states = model(torch.tensor([[1, 2, 3], [2, 1, 3]]))[:, -1]
    assert not torch.allclose(states[0], states[1])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="dim=8 is not a multiple of num_heads=3"):
        SASRecConfig(num_items=9, dim=8, num_heads=3)

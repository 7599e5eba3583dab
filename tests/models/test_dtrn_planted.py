"""What DTRN finds where the causes are known: gates, and whether tasks part (specification, 9).

Slow: 900 steps. `benchmarks/planted_tasks.py` makes the world; docs/results/dtrn.md says what these
printed. Nothing here asserts that DTRN scores better than anything.
"""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from recsys.models.dtrn import specialisation

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def planted() -> Iterator[ModuleType]:
    """The study, which is no package; it imports the world from beside it."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("planted_gates")
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_gates_tell_whose_field_it_is(planted: ModuleType, seed: int) -> None:
    """The directions; docs/results/dtrn.md says where the specification's margins are reached."""
    model, _, test = planted.train(seed, head="mmoe")
    found = planted.ratios(model, test)
    print(seed, {k: round(v, 3) for k, v in found.items()}, planted.aucs(model, test))
    assert found["field_1"] > 2  # task one only
    assert found["field_2"] < 0.6  # task two only
    assert 0.7 < found["field_3"] < 1.5  # both
    assert 0.6 < found["A"] < 1.8  # both
    assert found["B"] < found["A"]  # task two only


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["MMoE + DTRN", "loud start", "free table"])
def test_whether_the_tasks_part_is_monitored(planted: ModuleType, variant: str) -> None:
    """Reported, not asserted, but for what cannot fail in a sound model."""
    options: dict[str, Any] = planted.VARIANTS[variant]
    model, world, test = planted.train(1, **options)
    with torch.inference_mode():
        found = specialisation(model, model.tensors(test.history, test.candidates))
    reached, most = planted.aucs(model, test), planted.oracle(world, test)
    print(variant, {k: round(v, 4) for k, v in found.items()}, reached, most)
    assert all(-1 <= value <= 1 + 1e-5 for key, value in found.items() if "cosine" in key)
    assert found["scale_spread"] > 0
    assert all(0.7 < auc < bound + 0.02 for auc, bound in zip(reached, most, strict=True))

"""How a ranker's tasks make one score: `click^0.5 * buy^2`, `click * (1 + 3 * buy)`.

Names are tasks and stand for their probabilities; numbers are positive; operators are + * / and ^,
whose exponent is a number of any sign. Nothing is subtracted, so every value is positive, and the
score is its logarithm: of the same order, and exact where a product would be too small for a float.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LONGEST = 500
"""Characters; a request may bring a formula."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that is known to be one."""

    text: str
    names: tuple[str, ...]
    """The tasks it reads, sorted."""
    tree: ast.expr

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError that says what is wrong."""
        if len(text) > LONGEST:
            raise ValueError(f"a formula of {len(text)} characters is longer than {LONGEST}")
        try:
            tree = ast.parse(text.replace("^", "**"), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(
                f"{text!r} is no formula: write, for instance, click^0.5 * buy^2"
            ) from error
        names: set[str] = set()
        _check(tree, text, names)
        if not names:
            raise ValueError(f"{text!r} names no task: every item would have the same score")
        return cls(text, tuple(sorted(names)), tree)

    def log_value(self, log_p: Mapping[str, Floats]) -> Floats:
        """Logarithm of the formula's value, from those of the probabilities."""
        return np.asarray(_log(self.tree, log_p))


def _number(node: ast.expr) -> float | None:
    """The value of a plain number, with a sign or without."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand)
        return None if inner is None else -inner
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def _check(node: ast.expr, text: str, names: set[str]) -> None:
    value = _number(node)
    if value is not None:
        if not 0 < value < np.inf:
            raise ValueError(
                f"{text!r}: {value:g} must be positive, only exponents may be negative"
            )
    elif isinstance(node, ast.Name):
        names.add(node.id)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        _check(node.left, text, names)
        exponent = _number(node.right)
        if exponent is None or not np.isfinite(exponent):
            raise ValueError(f"{text!r}: an exponent must be a number")
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult | ast.Div):
        _check(node.left, text, names)
        _check(node.right, text, names)
    else:
        raise ValueError(f"{text!r}: only tasks, positive numbers, + * / ^ and ( ) are understood")


def _log(node: ast.expr, log_p: Mapping[str, Floats]) -> Floats | float:
    if isinstance(node, ast.Name):
        return log_p[node.id]
    if not isinstance(node, ast.BinOp):
        value = _number(node)
        assert value is not None, "checked when it was read"
        return float(np.log(value))
    left = _log(node.left, log_p)
    if isinstance(node.op, ast.Pow):
        exponent = _number(node.right)
        assert exponent is not None, "checked when it was read"
        return left * exponent
    right = _log(node.right, log_p)
    if isinstance(node.op, ast.Add):
        return np.logaddexp(left, right)
    return left + right if isinstance(node.op, ast.Mult) else left - right

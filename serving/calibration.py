"""Predicted probabilities -> calibrated ones, per outcome, fitted on held-out persons at export.

    p'_k  proportional to  exp(offset_k) p_k ^ slope

For a binary outcome this is Platt's sigmoid on the logit; offsets of more classes are one each.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Floats = NDArray[np.float64]
SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1: float32 gives no more."""


class Calibration(BaseModel):
    """How one outcome's probabilities are corrected."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    """Of the outcome."""
    kind: Literal["binary", "classes"]
    """One column with the probability of class 1, or a column for every class."""
    slope: float
    offsets: tuple[float, ...]
    """One for the class 1 of a binary outcome, else one a class."""
    persons: int
    """Labels it was fitted on; 0 means it leaves the probabilities as they are."""

    @property
    def width(self) -> int:
        """Columns of the outcome."""
        return len(self.offsets)


def log_odds(calibration: Calibration, p_BK: Floats) -> Floats:
    """Unnormalised log-probabilities of every class, (B, K), two for a binary outcome."""
    p_BK = np.clip(p_BK.astype(np.float64), SMALLEST, 1 - SMALLEST)
    offsets = np.array(calibration.offsets)
    if calibration.kind == "binary":
        p_BK, offsets = np.concatenate([1 - p_BK, p_BK], axis=1), np.array([0.0, offsets[0]])
    return calibration.slope * np.log(p_BK) + offsets


def calibrate(calibration: Calibration, p_BK: Floats) -> Floats:
    """The outcome's columns, corrected, (B, K) as they came."""
    score_BK = log_odds(calibration, p_BK)
    score_BK -= score_BK.max(axis=1, keepdims=True)
    odds_BK = np.exp(score_BK)
    corrected_BK = odds_BK / odds_BK.sum(axis=1, keepdims=True)
    return corrected_BK[:, 1:] if calibration.kind == "binary" else corrected_BK

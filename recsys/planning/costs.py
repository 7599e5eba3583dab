"""Prices of work, fitted to measured trials, and the bill of a workload.

    costs.json    what `recsys calibrate` wrote: machine, date, prices, the trials behind them

A price is never negative (non-negative least squares, Lawson and Hanson 1974), and each trial
counts by its relative error, so that the small ones are not drowned by the large.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from features.errors import InputError
from recsys.planning.workload import STAGES, Work, Workload

SHIPPED = Path(__file__).with_name("costs.json")
Prices = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What one stage of one trial took."""

    cpu_seconds: float
    peak_mib: float
    seconds: float = 0.0
    """By the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A workload that was run, and what each of its stages took."""

    workload: Workload
    used: Mapping[str, Used]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Measured prices of one machine, of one core of it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    machine: str
    date: str
    seconds: Mapping[str, Prices]
    """Stage -> kind of work -> processor seconds a unit."""
    mib: Mapping[str, Prices]
    """Stage -> kind of work -> MiB of peak memory a unit."""
    parallel: float = 1.0
    """Work that a core does while all others work too, against one that works alone: 0..1."""
    trials: tuple[Trial, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Costs":
        """Of a file that `recsys calibrate` wrote; raises InputError."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise InputError(
                f"{path} holds no costs: {where}: {first['msg']}: write it with `recsys calibrate`"
            ) from error

    def to_json(self) -> str:
        """The content of costs.json."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def bill(self, workload: Workload) -> dict[str, Used]:
        """What every stage of `workload` is predicted to take, one core working alone."""
        return {
            stage: Used(
                cpu_seconds=_sum(self.seconds[stage], workload.time_of(stage)),
                peak_mib=_sum(self.mib[stage], workload.memory_of(stage)),
            )
            for stage in STAGES
        }


def _sum(prices: Prices, work: Work) -> float:
    return sum(prices.get(kind, 0.0) * amount for kind, amount in work.items())


def fit(trials: Sequence[Trial], machine: str, date: str, parallel: float) -> Costs:
    """Prices under which the trials would have cost what they did, as nearly as can be."""
    seconds, mib = {}, {}
    for stage in STAGES:
        used = [trial.used[stage] for trial in trials]
        times = [trial.workload.time_of(stage) for trial in trials]
        sizes = [trial.workload.memory_of(stage) for trial in trials]
        seconds[stage] = fit_prices(times, [one.cpu_seconds for one in used])
        mib[stage] = fit_prices(sizes, [one.peak_mib for one in used])
    return Costs(
        machine=machine,
        date=date,
        seconds=seconds,
        mib=mib,
        parallel=parallel,
        trials=tuple(trials),
    )


def fit_prices(work: Sequence[Work], costs: Sequence[float]) -> dict[str, float]:
    """Non-negative prices of each kind of work, by relative least squares; without the free ones.

    work, costs: one entry a trial; costs must be positive.
    """
    from scipy.optimize import nnls  # noqa: PLC0415 - a calibration needs it, a plan does not

    kinds = list(work[0])
    amounts = np.array([[one[kind] for kind in kinds] for one in work], float)
    amounts /= np.asarray(costs, float)[:, None]
    scale = np.maximum(amounts.max(axis=0), 1e-300)
    found, _ = nnls(amounts / scale, np.ones(len(costs)))
    return {
        kind: float(price) for kind, price in zip(kinds, found / scale, strict=True) if price > 0
    }

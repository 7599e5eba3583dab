"""A finished run of the life-event transformer and its dataset, opened to look inside."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.errors import InputError
from features.life_encode import encode_documents
from features.life_store import Lives
from features.stage import read_manifest
from recsys.models.life_events import LifeEvents
from recsys.models.outcome_interface import LifeBatch
from recsys.training.outcomes import life_batch
from recsys.training.run import load_run


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A model in evaluation mode and the lives it was trained on."""

    model: LifeEvents
    data: Lives

    @classmethod
    def open(cls, run: Path, lives: Path) -> "OpenedRun":
        """Raises InputError when they do not belong together, or the model is another one."""
        data = Lives.open(lives)
        parent = read_manifest(run, "run").parent
        if data.manifest is None or parent != data.manifest.sha256:
            raise InputError(f"{run} was trained on another dataset than {lives}")
        model, name, _ = load_run(run)
        if not isinstance(model, LifeEvents):
            raise InputError(f"{run} trained {name}: only life_events can be looked into")
        return cls(model.requires_grad_(requires_grad=False), data)

    def column(self, name: str) -> int:
        """Number of a probability column; empty: the first. Raises InputError."""
        names = [column for outcome in self.data.schema.outcomes for column in outcome.columns]
        if name and name not in names:
            raise InputError(f"there is no outcome {name!r}: choose among {names}")
        return names.index(name) if name else 0

    def column_name(self, number: int) -> str:
        """Name of a probability column."""
        names = [column for outcome in self.data.schema.outcomes for column in outcome.columns]
        return names[number]

    def token(self, name: str) -> int:
        """Number of a token by its meaning, such as `event=insulin`. Raises InputError."""
        names = self.data.schema.token_names
        if name in names:
            return names.index(name)
        near = [other for other in names if name.lower() in other.lower()][:5] or names[5:10]
        raise InputError(f"there is no token {name!r}; some there are: {', '.join(near)}")

    def case_of(self, user: str) -> int:
        """Row of a person's last case, by raw id. Raises InputError."""
        raw = self.data.raw_users()
        try:
            wanted = pa.scalar(user).cast(raw.type)
        except pa.ArrowInvalid as error:
            raise InputError(f"{user!r} is no id of this dataset ({error})") from error
        found = np.flatnonzero([value == wanted for value in raw])
        rows = np.flatnonzero(np.isin(self.data.cases["user"], found))
        if not len(rows):
            raise InputError(f"{user} has no case (ids there are: {raw[:5].to_pylist()})")
        return int(rows[-1])

    def batch(self, rows: NDArray[np.int64]) -> LifeBatch:
        """Documents of cases, encoded as in serving."""
        documents = self.data.documents(rows)
        return life_batch(encode_documents(documents, self.data.schema, self.model.max_len))

    def log_odds(self, person_BD: Tensor, column: int) -> Tensor:
        """Log p / (1 - p) of a column before calibration, (B,)."""
        p_B = self.model.outcomes(person_BD)[:, column]
        return torch.logit(p_B.double(), eps=1e-9).float()

"""One rank of a training: the arguments of `train` as JSON; may stop after its first checkpoint.

Started by torchrun, or alone.
"""

import json
import os
import sys
from pathlib import Path

from pydantic import TypeAdapter

from recsys.training.checkpoint import Checkpoints
from recsys.training.config import TrainConfig
from recsys.training.run import train


def stop_after_the_first_checkpoint() -> None:
    save = Checkpoints.save

    def save_and_die(self: Checkpoints, *given: object) -> None:
        save(self, *given)  # type: ignore[arg-type]
        os._exit(9)

    Checkpoints.save = save_and_die  # type: ignore[method-assign]


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    if told["stop"]:
        stop_after_the_first_checkpoint()
    config = TypeAdapter(TrainConfig).validate_python(told["train"])
    train(told["model"], told["options"], config, Path(told["dataset"]), Path(told["out"]))

import json
from pathlib import Path

import pytest
import torch

from recsys.models.interface import HistoryBatch
from recsys.training.checkpoint import Progress
from recsys.training.journal import keep_until, open_journal

BATCH = HistoryBatch(torch.tensor([[1, 2, 3]]), targets=torch.tensor([[2, 3, 0]]))


def test_a_validation_is_a_line_for_people_and_one_of_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_journal(tmp_path) as journal:
        journal.start(0, 10)
        journal.step(1, torch.tensor(2.0), BATCH)
        assert journal.events == 2
        assert journal.events_per_second() > 0
        progress = Progress(step=5, best_score=0.5, best_step=5, seconds=3.21)
        journal.validation(progress, 1.25, {"events_per_second": 12_345.6, "ndcg@10": 0.5})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        captured.err == "epoch 1.25  step 5  events_per_second 12,346  ndcg@10 0.5000  3 s  best\n"
    )
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 5, "epoch": 1.25, "events_per_second": 12345.6, "ndcg@10": 0.5, "seconds": 3.2,
    }  # fmt: skip
    assert list((tmp_path / "tensorboard").iterdir())


def test_lines_after_the_checkpoint_and_a_torn_line_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    keep_until(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'

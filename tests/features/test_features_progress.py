"""The current step is shown on a terminal and nowhere else."""

import io
import sys
import time

import pytest

from features.progress import steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_steps() -> None:
    with steps("dataset") as say:
        for step in ("reading", "writing"):
            say(step)
            time.sleep(0.15)  # the spinner draws itself twelve times a second


def test_steps_are_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    run_steps()
    shown = sys.stderr.getvalue()
    assert "dataset: reading" in shown
    assert "dataset: writing" in shown


def test_a_batch_job_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run_steps()
    assert capsys.readouterr() == ("", "")

"""The command serves from its start to SIGTERM, and refuses a bad configuration in a sentence."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import polars as pl
import pytest

from recsys.cli import main

BUNDLE = Path(__file__).parents[1] / "bundles" / "v1"
COMMAND = [sys.executable, "-c", "from recsys.cli import main; main()"]


def test_from_start_to_sigterm(tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text("[serve]\nport = 0\ndrain_seconds = 0.1\n")
    log, state = tmp_path / "log", tmp_path / "state.db"
    arguments = ["serve", BUNDLE, "--config", config, "--log", log, "--state", state]
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = ""
        while '"started"' not in line:
            line = process.stderr.readline()
            assert line, "it ended before it started"
        address = json.loads(line)["public"]
        request = urllib.request.Request(
            f"{address}/v1/recommend",
            json.dumps({"user_id": "ada", "history": ["P00044"]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            items = json.load(answer)["items"]
        assert len(items) == 10
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.returncode == 0
        rest = process.stderr.read()
    events = [json.loads(line).get("event") for line in rest.splitlines() if line.startswith("{")]
    assert events[-2:] == ["draining", "stopped"]
    assert "Traceback" not in rest
    joined = subprocess.run(
        [
            *COMMAND,
            "exposures",
            str(log),
            "--out",
            str(tmp_path / "x.parquet"),
            "--reward",
            "click=1",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "10 items shown in 1 answers, 0 with a reward" in joined.stdout
    assert pl.read_parquet(tmp_path / "x.parquet")["item_id"].to_list() == [
        item["item_id"] for item in items
    ]


def test_two_processes_share_a_port_and_end_together(tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text("[serve]\nport = 0\ndrain_seconds = 0.0\n")
    arguments = ["serve", BUNDLE, "--config", config, "--processes", "2"]
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        started = []
        while len(started) < 2:
            line = process.stderr.readline()
            assert line, "it ended before it started"
            if '"started"' in line:
                started.append(json.loads(line))
        assert len({one["public"] for one in started}) == 1
        admins = sorted(one["admin"] for one in started)
        assert len(set(admins)) == 2

        def served(admin: str) -> int:
            with urllib.request.urlopen(f"{admin}/metrics", timeout=20) as answer:
                text = answer.read().decode()
            found = [line for line in text.splitlines() if 'route="similar",status="200"' in line]
            return int(float(found[0].split()[-1])) if found else 0

        asked = 0
        while asked < 20 or not all(map(served, admins)):  # the kernel spreads connections
            assert asked < 400, "one process gets everything"
            request = urllib.request.Request(
                f"{started[0]['public']}/v1/similar",
                json.dumps({"item_id": "P00044"}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert answer.status == 200
            asked += 1
        assert sum(map(served, admins)) == asked
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        rest = process.stderr.read()
    assert process.returncode == 0
    assert rest.count('"stopped"') == 2
    assert "Traceback" not in rest


def test_a_process_that_dies_ends_the_others(tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text("[serve]\nport = 0\ndrain_seconds = 0.0\n")
    arguments = ["serve", BUNDLE, "--config", config, "--processes", "2"]
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        started = 0
        while started < 2:
            line = process.stderr.readline()
            assert line, "it ended before it started"
            started += '"started"' in line
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        servers = [
            int(pid)
            for pid in children
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        os.kill(servers[0], signal.SIGKILL)
        process.wait(20)
    assert process.returncode == 1


REFUSED = {
    "a misspelt key": ("[serve]\nprot = 1\n", [], "serve.prot: unknown key"),
    "a wrong type": ('[serve]\nport = "x"\n', [], "serve.port"),
    "no process": ("[serve]\nprocesses = 0\n", [], "must be at least 1"),
    "an impossible port": ("[serve]\nport = 99999\n", [], "is no port"),
    "another section": ("[serv]\n", [], "serv: unknown section"),
    "the network without a token": ("", ["--host", "0.0.0.0"], "RECSYS_TOKEN"),
    "a state that cannot be": ("", ["--state", "/proc/nothing/state.db"], "unable to open"),
    "a url that is none": ("", ["--state", "http://localhost"], "not a Redis url"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_configuration_is_a_sentence_and_status_2(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content, options, expected = REFUSED[case]
    config = tmp_path / "serve.toml"
    config.write_text(content)
    arguments = ["serve", str(BUNDLE), "--config", str(config), *options]
    monkeypatch.setattr(sys, "argv", ["recsys", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    found = capsys.readouterr().err
    assert expected in found.replace("\n", " ")
    assert "Traceback" not in found

import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from features.errors import InputError
from offline_eval.answers import METRICS
from offline_eval.markdown import markdown
from offline_eval.page import page
from offline_eval.report import (
    EXPOSURE,
    LABELS,
    MEANINGS,
    METRICS_FILE,
    Comparison,
    CutEstimate,
    Example,
    Report,
    System,
    TwoStages,
    read_report,
)
from offline_eval.significance import Difference, Estimate
from offline_eval.table import main_metrics, print_report

NAN = float("nan")


def system(name: str, kind: str, value: float) -> System:
    one = Estimate(value, value - 0.01, value + 0.01, 90, 0)
    other = Estimate(value / 2, value / 2 - 0.01, value / 2 + 0.01, 90, 0)
    names = [f"{metric}@{k}" for metric in ("hit_rate", "recall", "ndcg") for k in (1, 10)]
    estimates = {n: other if n.startswith("ndcg") else one for n in names}
    estimates |= {"auc": Estimate(NAN, NAN, NAN, 0, 90), "coverage@10": other}
    return System(name=name, kind=kind, estimates=estimates)  # pyright: ignore[reportArgumentType]


def comparison(second: str, value: float, low: float, high: float) -> Comparison:
    difference = Difference(value, low, high, 90)
    return Comparison(first="bundle", second=second, metric="ndcg@10", difference=difference)


REPORT = Report(
    title="A <shop> & its split",
    protocol={"split": "test", "ks": [1, 10]},
    counts={"cases": 90, "targets": 1234, "cold targets (kept)": 0},
    systems=[
        system("bundle", "bundle", 0.4),
        system("bundle, retrieval only", "stage", 0.35),
        system("recent_popularity", "baseline", 0.3),
    ],
    comparisons=[
        comparison("recent_popularity", 0.05, 0.02, 0.08),
        comparison("bundle, retrieval only", 0.01, -0.02, 0.04),
    ],
    notes=["12 targets were seen before."],
    ks=(1, 10),
    main_k=10,
    ceiling={"hit_rate@10": 0.5},
    cuts=[
        CutEstimate(cut="events <in> it", group=group, system=name, metric=metric, estimate=one)
        for group, one in (
            ("1 to 4", Estimate(0.25, 0.2, 0.3, 50, 40)),
            ("none", Estimate(NAN, NAN, NAN, 0, 90)),
        )
        for name in ("bundle", "bundle, retrieval only", "recent_popularity")
        for metric in ("hit_rate@10", "ndcg@10")
    ],
    two_stages=[
        TwoStages(
            recalls={"all sources": Estimate(0.77, 0.7, 0.8, 90, 0)},
            oracle=Estimate(0.66, 0.6, 0.7, 90, 0),
            fates={"listed": 30, "no source proposed it": 10},
        )
    ],
    examples=[
        Example(
            user="ada",
            history=["a <lamp>"],
            history_length=7,
            listed=["a chair", "a desk"],
            hits=[False, True],
            targets=["a desk"],
        )
    ],
)


def printed(report: Report, width: int) -> str:
    text = StringIO()
    print_report(report, Console(file=text, width=width))
    return text.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits_the_terminal_and_tells_everything(width: int) -> None:
    text = printed(REPORT, width)
    assert max(map(len, text.splitlines())) <= width
    told = " ".join(text.split())
    figures = ("0.4000", ".390-.410", "0.5000", "80.0%", "1,234 targets", REPORT.fingerprint)
    for expected in ("HR@10", "NDCG@10", "Coverage@10", "12 targets were seen", *figures):
        assert expected in told
    assert "75.0% listed, 25.0% no source proposed it" in told
    assert "kept" not in told  # a count of 0 says nothing


def test_metrics_equal_to_another_are_named_once() -> None:
    names, sentences = main_metrics(REPORT)
    assert names == ["hit_rate@10", "ndcg@10", "auc", "coverage@10"]
    assert sentences == ["Recall@10 equals HR@10 here: each case has one target."]


def test_verdicts_in_words() -> None:
    better, same = (found.sentence for found in REPORT.comparisons)
    assert better.startswith("bundle beats recent_popularity on NDCG@10: +0.0500 (95 % interval")
    assert same.startswith("bundle does NOT beat bundle, retrieval only on NDCG@10: the interval")
    worse = comparison("ease", -0.05, -0.08, -0.02).sentence
    assert worse.startswith("bundle is WORSE than ease on NDCG@10: -0.0500")


def test_markdown_has_every_figure() -> None:
    text = markdown(REPORT)
    row = "| recent_popularity | 0.3000 [.290, .310] | 0.3000 [.290, .310] |"
    assert row in text.splitlines()
    assert "| best possible |  | 0.5000 |" in text.splitlines()
    assert "| bundle | -  |" in text.splitlines()  # AUC undefined
    assert "| 1 to 4 | 50 |" + " 0.2500 [.200, .300] |" * 3 in text.splitlines()
    assert "| none |" not in text  # no target is in that group
    assert "| recall of the candidates, all sources | 0.7700 [.700, .800] |" in text.splitlines()
    assert "| NDCG@10, candidates in the best order | 0.6600 [.600, .700] |" in text.splitlines()
    assert "- targets listed: 30 (75.0%)" in text.splitlines()
    for line in text.splitlines():
        assert line.count("|") in (0, 3, 4, 6)


def test_every_metric_of_an_evaluation_is_explained() -> None:
    assert set(MEANINGS) == set(LABELS) >= {*METRICS, *EXPOSURE}


class Tags(HTMLParser):
    """Checks that tags close in order, and gathers text and addresses."""

    void = ("meta", "br", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_well_formed_and_needs_no_network() -> None:
    html = page(REPORT)
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.addresses == []
    assert "http" not in html
    assert "url(" not in html
    assert html.count("<script>") == 1, "the search among users, inside the file"
    text = " ".join(tags.text)
    for expected in (
        "A <shop> & its split",
        "0.4000",
        "80.0% of the best",
        "90 users undefined",
        "50 users",
    ):
        assert expected in text


def test_marks_lie_inside_the_chart() -> None:
    html = page(replace(REPORT, ceiling={"hit_rate@10": 0.9}))
    places = [float(part.split("%")[0]) for part in html.split('style="left:')[1:]]
    assert places
    assert all(0 <= place <= 100 for place in places)
    assert "nan" not in html


def test_json_goes_there_and_back(tmp_path: Path) -> None:
    text = REPORT.to_json()
    assert json.loads(text)["systems"][0]["estimates"]["auc"]["value"] is None
    (tmp_path / METRICS_FILE).write_text(text)
    again = read_report(tmp_path)
    assert again.to_json() == text
    assert math.isnan(again.bundle.estimates["auc"].value)
    assert again.comparisons[0].sentence == REPORT.comparisons[0].sentence


def test_an_edited_protocol_is_noticed(tmp_path: Path) -> None:
    text = REPORT.to_json().replace('"split": "test"', '"split": "validation"')
    with pytest.raises(InputError, match="says fingerprint"):
        Report.from_json(text, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": "a"}'])
def test_what_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a report"):
        Report.from_json(text, tmp_path)


def test_a_missing_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path)


def test_learning_curves_and_cut_offs_are_drawn() -> None:
    assert "Learning curves" not in page(REPORT)
    curves = {"loss": [(10.0, 5.0), (20.0, 4.0)], "score": [(10.0, 0.1), (20.0, NAN)]}
    html = page(REPORT.with_learning(curves))
    assert html.count("<svg") == 5  # three metrics over k, two curves
    assert "loss: step 20, loss 4" in html
    assert "bundle: k 10, NDCG 0.2" in html
    read = Report.from_json(REPORT.with_learning({"loss": [(1.0, 2.0)]}).to_json(), Path("x"))
    assert read.fingerprint == REPORT.fingerprint
    assert [tuple(point) for point in read.learning["loss"]] == [(1.0, 2.0)]

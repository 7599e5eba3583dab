"""Verbs that settle arguments: compare runs, redraw a report, judge a policy or probabilities."""

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer()


@app.command()
def compare(
    reports: Annotated[
        list[str],
        typer.Argument(
            help="Report directories, each as NAME=DIR or DIR. One NAME given several times means "
            "several seeds of one system.",
            show_default=False,
        ),
    ],
    metric: Annotated[
        str | None, typer.Option(help="What verdicts are about, for instance ndcg@10.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Also the baselines of the first report.")] = True,
    out: Annotated[
        Path | None, typer.Option(help="Directory to write as well: JSON, Markdown and HTML.")
    ] = None,
    allow_differences: Annotated[
        bool,
        typer.Option("--allow-differences", help="Compare different protocols, with a warning."),
    ] = False,
    resamples: Annotated[
        int, typer.Option(min=10, help="Bootstrap resamples of the users.")
    ] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the resamples and permutations.")] = 0,
) -> None:
    """Put reports side by side: intervals, paired tests with Holm, letters, the popularity gate.

    Refuses reports of different protocols and says which part differs.
    """
    from recsys.verdicts import compare_reports

    compare_reports(
        reports,
        out,
        metric=metric,
        baselines=baselines,
        allow_differences=allow_differences,
        resamples=resamples,
        seed=seed,
    )


@app.command()
def report(
    directory: Annotated[
        Path, typer.Argument(help="A report directory made by `recsys evaluate`.")
    ],
    form: Annotated[
        Literal["terminal", "html", "markdown", "json"], typer.Option("--as", help="What to make.")
    ] = "terminal",
    out: Annotated[
        Path | None, typer.Option(help="File to write; must not exist. Without it: the terminal.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A training run, whose learning curves the page then shows.")
    ] = None,
) -> None:
    """Show a report again, in another form, or with the learning curves of its training run."""
    from recsys.verdicts import show_report

    show_report(directory, form, out, run)


@app.command("off-policy")
def off_policy(
    log: Annotated[
        Path,
        typer.Argument(
            help="Exposure log, Parquet: request_id, at, user_id, item_id, rank, "
            "propensity, reward."
        ),
    ],
    policy: Annotated[
        Path,
        typer.Argument(
            help="What the new policy would show, Parquet: request_id, item_id, rank, "
            "probability and, optional, expected_reward."
        ),
    ],
    clip: Annotated[
        float | None, typer.Option(min=0, help="Largest weight allowed; trades noise for bias.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write as well.")] = None,
    resamples: Annotated[
        int, typer.Option(min=10, help="Bootstrap resamples of the users.")
    ] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
) -> None:
    """Estimate what a new policy would have earned, from a log of what an old one showed."""
    from recsys.verdicts import judge_policy

    judge_policy(log, policy, out, clip=clip, resamples=resamples, seed=seed)


@app.command()
def measure(
    examples: Annotated[
        Path, typer.Argument(help="Parquet with `label` and `probability`, a row an example.")
    ],
    group: Annotated[
        str | None, typer.Option(help="Column of users: adds GAUC, and resamples whole users.")
    ] = None,
    weighting: Annotated[
        Literal["examples", "positives", "equal"], typer.Option(help="Weights of users in GAUC.")
    ] = "examples",
    alpha: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of positives among the unlabelled: an outcome, with C-MCC and AUL.",
        ),
    ] = None,
    bins: Annotated[int, typer.Option(min=1, help="Bins of the calibration error.")] = 15,
    out: Annotated[Path | None, typer.Option(help="HTML page to write as well.")] = None,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
) -> None:
    """Measure predicted probabilities against labels: AUC, GAUC, log-loss, calibration."""
    from recsys.verdicts import measure_examples

    measure_examples(
        examples, out, group=group, weighting=weighting, alpha=alpha, bins=bins, seed=seed
    )

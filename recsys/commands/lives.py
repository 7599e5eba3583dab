"""Verbs that look into an outcome model: timeline, concepts, event-map, robustness."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Run = Annotated[Path, typer.Argument(help="A run of life_events made by `recsys train`.")]
Lives = Annotated[Path, typer.Option("--dataset", help="The dataset of lives it was trained on.")]
Outcome = Annotated[str, typer.Option(help="Probability column to explain; default: the first.")]


@app.command()
def timeline(
    run: Run,
    dataset: Lives,
    user: Annotated[str, typer.Option(help="Raw id of the person; the last case is explained.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    outcome: Outcome = "",
) -> None:
    """Draw which of a person's events speak for and against an outcome."""
    from recsys.interpret.timeline import write_timeline

    found = write_timeline(run, dataset, user, outcome, out)
    typer.echo(
        f"{found.outcome} {found.probability:.4f} from {len(found.events) - 1} events  {out}"
    )


@app.command()
def concepts(
    run: Run,
    dataset: Lives,
    concept: Annotated[
        list[str], typer.Option(help="A token's meaning, such as `event=insulin`; repeat it.")
    ],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    outcome: Outcome = "",
    layer: Annotated[int, typer.Option(help="Block after which states are taken; -1: last.")] = -1,
    bags: Annotated[int, typer.Option(min=2, help="Classifiers per concept.")] = 50,
) -> None:
    """Test whether concepts push predictions up or down, against random concepts (TCAV)."""
    from recsys.interpret.concepts import TcavSizes, write_concepts

    found = write_concepts(run, dataset, concept, outcome, TcavSizes(layer=layer, bags=bags), out)
    for one in found:
        typer.echo(
            f"{one.concept}: pushes {one.outcome} {one.verdict}: share {one.score:.2f}, alignment "
            f"{one.alignment:.2f} [{one.low:.2f}, {one.high:.2f}], random concepts "
            f"[{one.random_low:.2f}, {one.random_high:.2f}], accuracy {one.accuracy:.2f}"
        )
    typer.echo(f"concepts  {out}")


@app.command("event-map")
def event_map(
    run: Run,
    dataset: Lives,
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
) -> None:
    """Draw a map of the event tokens, with each one's nearest."""
    from recsys.interpret.event_map import write_map

    typer.echo(f"{write_map(run, dataset, out)} tokens  {out}")


@app.command()
def robustness(
    runs: Annotated[list[Path], typer.Argument(help="Runs that differ in their seed.")],
    dataset: Lives,
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    permutations: Annotated[int, typer.Option(min=10)] = 1_000,
) -> None:
    """Compare the distances between tokens across seeds, against chance."""
    from recsys.interpret.event_map import write_robustness

    for one in write_robustness(runs, dataset, out, permutations=permutations):
        typer.echo(
            f"{one.first} and {one.second}: Spearman {one.correlation:.3f}, p {one.adjusted:.4f}"
        )
    typer.echo(f"robustness  {out}")

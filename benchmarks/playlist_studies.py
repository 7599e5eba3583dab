"""Playlist models on real playlists: continuation beside baselines, and probes of the vectors.

    RECSYS_DATA=... python benchmarks/playlist_studies.py prepare work/studies
    python benchmarks/playlist_studies.py study work/studies spotify
    python benchmarks/playlist_studies.py probe work/studies spotify uni
    python benchmarks/playlist_studies.py table work/studies > table.md

Studies: spotify (split by playlist), spotify-time (newest snapshots), thirty (newest sessions),
rock (newest blocks), rock-station (split by station). Every stage is kept; a rerun goes on.

Subsampled so that a shared core is done in minutes: of the archive at most 4 snapshots a playlist,
evenly spaced, without those that hold the same set of songs as one before; of 30Music every third
session of 10 songs and more; of the stations blocks of 3 hours with 10 songs and more.
"""

import json
import os
import sys
import tomllib
from pathlib import Path

import numpy as np
import polars as pl

GENRES = {
    "charts": r"^top 50|top 100|today's top|hits|rising|new music",
    "calm": r"piano|calm|sleep|peace|focus|ambient|relax|meditat|chill|lo-fi|coffee|jazz|acoustic",
    "dance": r"dance|house|techno|edm|synthwave|party|power|workout|disco|remix|beast",
    "indie": r"indie|alternative|rock|shoegaze|dreampop|punk|djent",
}
SNAPSHOTS = 4
SPLITS = {
    "spotify": 'name = "held-out-users", group = "playlist", validation = 0.1, test = 0.3',
    "spotify-time": (
        'name = "held-out-users", order = "newest", newest_by = "snapshot", '
        "validation = 0.1, test = 0.2"
    ),
    "thirty": 'name = "held-out-users", order = "newest", validation = 0.05, test = 0.1',
    "rock": 'name = "held-out-users", order = "newest", validation = 0.1, test = 0.2',
    "rock-station": 'name = "held-out-users", group = "station", validation = 0.1, test = 0.3',
}
EPOCHS = {"spotify": 25, "spotify-time": 60, "thirty": 12, "rock": 20, "rock-station": 20}
SEQ = 'name = "playlist_seq2seq"\ndim = 64\ndropout = 0.2\n'
SKIP_GRAM = "skip_gram = {epochs = 20}"
MODELS = {
    "sasrec": ('name = "sasrec"\ndim = 64\nmax_len = 100\n', ""),
    "bow_mean": (
        'name = "playlist_bow"\ndim = 64\npooling = "mean"\n',
        SKIP_GRAM,
    ),
    "bow_sif": ('name = "playlist_bow"\ndim = 64\n', SKIP_GRAM),
    "uni": (SEQ, SKIP_GRAM),
    "bi": (SEQ + 'encoder = "bidirectional"\n', SKIP_GRAM),
    "uni_attention": (SEQ + 'attention = "general"\ninput_feeding = false\n', SKIP_GRAM),
    "tuned": (SEQ, "autoencoder = false, parts = {epochs = 15}"),
}
STARTS = {"tuned": "uni"}
"""Models that go on from the run of another, which must be there."""
SOURCES = {
    "sasrec": ("model",),
    "bow_mean": ("model", "history_knn"),
    "bow_sif": ("model", "history_knn"),
    "uni": ("history_knn",),
    "bi": ("history_knn",),
    "uni_attention": ("history_knn",),
    "tuned": ("model", "history_knn"),
}
FEWER = {
    "spotify": ("sasrec", "bow_mean", "bow_sif", "uni", "tuned"),
    "thirty": ("sasrec", "bow_mean", "bow_sif", "uni", "tuned"),
    "rock": ("sasrec", "bow_sif", "uni", "tuned"),
    "rock-station": ("sasrec", "bow_sif", "uni", "tuned"),
}


def config_of(root: Path, study: str, model: str, source: str) -> str:
    sizes, playlist = MODELS[model]
    folder = root / study.split("-")[0]
    users = folder / "users.parquet"
    columns = pl.read_parquet_schema(users).names()
    kept = [name for name in columns if name in ("playlist", "snapshot", "station")]
    start = root / f"study-{study}" / f"run-{STARTS[model]}" if model in STARTS else ""
    items = folder / "items.parquet"
    table = ""
    if items.exists():
        table = (
            f'[data.items]\npaths = ["{items}"]\n'
            'columns = {title = "text", artist = "category"}\ntitle = "title"\n'
        )
    if kept:
        table += f'[data.users]\npaths = ["{users}"]\ncolumns = {json.dumps(kept)}\n'
    return (
        f'[data]\nsource = "log"\npaths = ["{folder / "log.parquet"}"]\n{table}'
        f'[features]\nduplicates = "keep"\ncold_targets = "drop"\n'
        f"item_columns = {['artist'] if items.exists() else []}\n"
        f"split = {{ {SPLITS[study]} }}\n[model]\n{sizes}"
        f"[train]\nmax_epochs = {EPOCHS[study]}\npatience = 4\nbatch_size = 32\n"
        f"learning_rate = 2e-3\nclip_norm = 5.0\n"
        f'objective = {{ name = "sampled_softmax", negatives = 1000, sampling = "popularity" }}\n'
        f'start_from = "{start}"\nplaylist = {{ {playlist} }}\n'
        f'[export]\nsources = ["{source}", "popularity"]\n'
    )


def prepare(root: Path) -> None:
    data = Path(os.environ["RECSYS_DATA"])
    spotify(data / "spotify_playlist_archive", root / "spotify")
    thirty(data / "thirty_music_sessions_10pct", root / "thirty")
    rock(data / "classic_rock_radio", root / "rock")


def spotify(source: Path, out: Path) -> None:
    tracks = pl.read_parquet(source / "playlist_tracks.parquet").sort("snapshot_id", "position")
    sets = tracks.group_by("snapshot_id").agg(
        pl.col("track_id").unique().sort().hash().sum().alias("held")
    )
    lists = pl.read_parquet(source / "playlists.parquet").join(sets, on="snapshot_id")
    lists = lists.sort("snapshot_time", "snapshot_id").unique(
        "held", keep="first", maintain_order=True
    )
    number, count = pl.col("snapshot_id").cum_count() - 1, pl.len()
    spaced = ((number * SNAPSHOTS) // count) != (((number - 1) * SNAPSHOTS) // count)
    lists = lists.filter((spaced | (count <= SNAPSHOTS)).over("playlist_idx"))
    name = pl.col("playlist_name").str.to_lowercase()
    genre = pl.lit(None, pl.String)
    for label, pattern in reversed(GENRES.items()):
        genre = pl.when(name.str.contains(pattern)).then(pl.lit(label)).otherwise(genre)
    users = lists.select(
        pl.col("snapshot_id").alias("user_id"),
        pl.col("playlist_idx").alias("playlist"),
        pl.col("snapshot_time").dt.timestamp("us").alias("snapshot"),
        genre.alias("label"),
        "playlist_name",
    )
    log = tracks.join(lists.select("snapshot_id", "snapshot_time"), on="snapshot_id")
    log = log.sort("snapshot_time", "snapshot_id", "position").select(
        pl.col("snapshot_id").alias("user_id"),
        pl.col("track_id").alias("item_id"),
        (pl.col("snapshot_time").dt.epoch("s") + pl.col("position")).alias("timestamp"),
    )
    songs = pl.read_parquet(source / "tracks.parquet").select(
        pl.col("track_id").alias("item_id"), "title", pl.col("artists").list.first().alias("artist")
    )
    save(out, log, users, songs)


def thirty(source: Path, out: Path) -> None:
    plays = pl.read_parquet(source / "interactions.parquet")
    plays = plays.filter(pl.len().over("session_id") >= 10)
    plays = plays.filter(pl.col("session_id").rank("dense") % 3 == 0)
    first = pl.col("ts").min().over("session_id")
    log = plays.sort(first, "session_id", "ts", maintain_order=True).select(
        pl.col("session_id").alias("user_id"),
        pl.col("song_id").alias("item_id"),
        pl.col("ts").alias("timestamp"),
    )
    users = log.group_by("user_id", maintain_order=True).len()
    save(out, log, users, None)


def rock(source: Path, out: Path) -> None:
    plays = pl.read_parquet(source / "interactions.parquet").sort("time", "unique_id")
    block = pl.col("time") // (3 * 3_600)
    user = pl.col("callsign") + "-" + block.cast(pl.String)
    plays = plays.with_columns(user_id=user).filter(pl.len().over("user_id") >= 10)
    first = pl.col("time").min().over("user_id")
    log = plays.sort(first, "user_id", "time", "unique_id").select(
        "user_id", pl.col("combined").alias("item_id"), pl.col("time").alias("timestamp")
    )
    users = plays.group_by("user_id", maintain_order=True).agg(
        pl.col("callsign").first().alias("station"), pl.col("callsign").first().alias("label")
    )
    songs = plays.unique("combined", keep="first", maintain_order=True).select(
        pl.col("combined").alias("item_id"), pl.col("song").alias("title"), "artist"
    )
    save(out, log, users, songs)


def save(out: Path, log: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    log.write_parquet(out / "log.parquet")
    users.write_parquet(out / "users.parquet")
    if items is not None:
        items.write_parquet(out / "items.parquet")
    lengths = log.group_by("user_id").len()["len"]
    print(
        f"{out.name}: {len(users):,} playlists, {len(log):,} songs, median {lengths.median():.0f}"
    )


def study(root: Path, name: str, wanted: list[str]) -> None:
    """Train and measure every system of a study; finished ones are kept."""
    from pydantic import TypeAdapter

    from data.build import build_events
    from features.build import build_dataset
    from recsys.config import RunConfig
    from recsys.evaluate import evaluate
    from recsys.export.bundle import export
    from recsys.pipeline import train_stage

    at = root / f"study-{name}"
    at.mkdir(exist_ok=True)
    events, dataset = at / "events", at / "dataset"
    baselines = ("popularity", "item_knn", "session_knn")
    for model in wanted or FEWER.get(name, tuple(MODELS)):
        for source in SOURCES[model]:
            text = config_of(root, name, model, source)
            config = TypeAdapter(RunConfig).validate_python(tomllib.loads(text))
            if not dataset.exists():
                build_events(config.data, events)
                build_dataset(events, config.features, dataset)
            run, bundle = at / f"run-{model}", at / f"bundle-{model}-{source}"
            report = at / f"report-{model}-{source}"
            if not run.exists():
                train_stage(config, dataset, run)
            if not bundle.exists():
                export(run, dataset, config.export, bundle)
            if not report.exists():
                evaluate(bundle, dataset, report, ks=(10, 50), baselines=baselines, resamples=200)
            baselines = ()


LABELS = {"spotify": "label", "rock": "label"}
"""Genre from the words of a playlist's name; the station of a block."""
ENCODERS = {"uni": "seq2seq", "bi": "both ways", "uni_attention": "attention", "tuned": "tuned"}


def probes(root: Path, name: str, models: list[str]) -> None:
    """Probe the runs of a study; finished ones are kept."""
    from recsys.playlists.probe_report import ProbeOptions, write_probes

    at, folder = root / f"study-{name}", root / name.split("-")[0]
    label = LABELS.get(name.split("-")[0], "")
    options = ProbeOptions(
        users=folder / "users.parquet" if label else None,
        label=label,
        attribute="artist" if label else "",
        content_songs=500,
        most=3_000,
        fractions=(0.2, 0.6, 1.0),
        changes=("positions", "reverse"),
    )
    for model in models:
        out = at / f"probes-{model}"
        if not out.exists() and (at / f"run-{model}").exists():
            write_probes(at / f"run-{model}", at / "dataset", out, options)


def probe_table(root: Path, name: str) -> None:
    """Markdown: a row a task, a column a system; the last two as the first model found them."""
    found = {
        model: json.loads((root / f"study-{name}" / f"probes-{model}" / "probes.json").read_text())
        for model in ENCODERS
        if (root / f"study-{name}" / f"probes-{model}").exists()
    }
    if not found:
        return
    first = next(iter(found.values()))
    print(f"\n**{name}, probes**: trained on {first['training']:,}, tested on {first['test']:,}\n")
    titles = [ENCODERS[model] for model in found]
    print("| task | classes | majority | " + " | ".join([*titles, "untrained", "bag"]) + " |")
    print("|---" * (5 + len(found)) + "|")
    for i, row in enumerate(first["rows"]):
        cells = [probed(one["rows"][i]["found"]["model"]) for one in found.values()]
        cells += [probed(row["found"][system]) for system in ("untrained", "bag of songs")]
        print(f"| {row['task']} | {row['classes']} | {row['majority']:.3f} | {' | '.join(cells)} |")


def probed(found: dict[str, float]) -> str:
    return f"{found['value']:.3f} [{found['low']:.2f}, {found['high']:.2f}]"


NAMES = {
    "popularity": "popularity",
    "item_knn": "item-kNN",
    "session_knn": "bag-of-songs neighbours (session-kNN)",
    "sasrec-model": "SASRec",
    "bow_mean-model": "mean of skip-gram, song vectors",
    "bow_mean-history_knn": "mean of skip-gram, neighbours' songs",
    "bow_sif-model": "SIF, song vectors",
    "bow_sif-history_knn": "SIF, neighbours' songs",
    "uni-history_knn": "seq2seq unidirectional, neighbours' songs",
    "bi-history_knn": "seq2seq bidirectional, neighbours' songs",
    "uni_attention-history_knn": "seq2seq with attention, neighbours' songs",
    "tuned-model": "seq2seq tuned on two parts, song vectors",
    "tuned-history_knn": "seq2seq tuned on two parts, neighbours' songs",
}
METRICS = ("recall@10", "recall@50", "r_precision@50", "ndcg@10", "ndcg@50")


def table(root: Path) -> None:
    """Markdown: mean over groups (playlists, stations) of the mean over their cases, and 95 %
    intervals by resampling the groups.
    """
    for name in SPLITS:
        reports = sorted((root / f"study-{name}").glob("report-*"))
        if not reports:
            continue
        users = pl.read_parquet(root / name.split("-")[0] / "users.parquet")
        group = next((c for c in ("playlist", "station") if c in users.columns), "user_id")
        found = []
        for report in reports:
            values = pl.read_parquet(report / "per_user.parquet")
            label = report.name.removeprefix("report-")
            names = values["system"].cast(pl.String)
            values = values.with_columns(
                system=pl.when(names == "bundle").then(pl.lit(label)).otherwise(names)
            )
            found.append(values.select("system", "user_id", *METRICS))
        every = pl.concat(found)
        users = users.with_columns(pl.col("user_id").cast(every.schema["user_id"]))
        every = every.join(users.select("user_id", pl.col(group).alias("group")), on="user_id")
        cases, groups = every["user_id"].n_unique(), every["group"].n_unique()
        print(f"\n**{name}**: {cases:,} cases, {groups:,} groups ({group})\n")
        print("| system | " + " | ".join(METRICS) + " |")
        print("|---" * (1 + len(METRICS)) + "|")
        for key, title in NAMES.items():
            mine = every.filter(pl.col("system") == key)
            if mine.is_empty():
                continue
            means = mine.group_by("group").agg(pl.col(METRICS).fill_nan(None).mean()).sort("group")
            print(
                f"| {title} | "
                + " | ".join(cell(means[m].drop_nulls().to_numpy()) for m in METRICS)
                + " |"
            )


def cell(values: np.ndarray) -> str:
    draw = np.random.default_rng(0).integers(0, len(values), (1_000, len(values)))
    low, high = np.quantile(values[draw].mean(1), [0.025, 0.975])
    return f"{values.mean():.4f} [{low:.3f}, {high:.3f}]".replace("0.", ".")


def main() -> None:
    task, root = sys.argv[1], Path(sys.argv[2])
    if task == "prepare":
        prepare(root)
    elif task == "study":
        study(root, sys.argv[3], sys.argv[4:])
    elif task == "probe":
        probes(root, sys.argv[3], sys.argv[4:])
    else:
        table(root)
        for name in SPLITS:
            probe_table(root, name)


if __name__ == "__main__":
    main()

"""The demonstration: a made-up shop, from its log to ten recommendations for one person."""

from pathlib import Path

from recsys.pipeline import Say, Workspace, run_pipeline
from recsys.recommend import recommend_user

CONFIG = Path(__file__).with_name("demo.toml")
USER = "ada"
"""Raw id of the person the recommendations are printed for."""


def run_demo(out: Path, say: Say) -> None:
    """All stages into `out`, then ten recommendations and where everything lies.

    Raises InputError when `out` holds stages of another config.
    """
    run_pipeline(CONFIG, out, say)
    at = Workspace(out)
    say("")
    recommend_user(at / "bundle", at / "dataset", USER, 10)
    say("")
    say(f"bundle   {at / 'bundle'}   recsys recommend {at / 'bundle'} ITEM ITEM ...")
    say(f"report   {at / 'report' / 'report.html'}")

"""A bundle with another policy: the same files, and a manifest of its own. No torch, no training.

Files are copied, as a bundle holds no links. Its stored requests are answered anew, as the policy
may change their answers.
"""

import shutil
import tomllib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from features.errors import InputError
from serving.bundle import Bundle, open_bundle, seal, write_bundle
from serving.golden import answer_golden
from serving.parts import Parts
from serving.policy_spec import PolicySpec
from serving.recommender import Recommender


def repolicy(
    bundle: Path, out: Path, *, policy: Path | None = None, formula: str | None = None
) -> PolicySpec:
    """Write `bundle` to `out` with the policy of a TOML file, or with another formula only.

    Raises InputError for a file that is no policy, BundleError for one that does not fit.
    """
    opened = open_bundle(bundle)
    written: dict[str, Any] = TypeAdapter(PolicySpec).dump_python(opened.manifest.policy)
    if policy is not None:
        written = _read(policy)
    if formula is not None:
        written = {**written, "formula": formula}
    try:
        wanted = TypeAdapter(PolicySpec).validate_python(written)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(["policy", *map(str, problem["loc"])])
        raise InputError(f"{policy or 'the formula'}: {key}: {problem['msg']}") from error
    with write_bundle(out) as directory:
        for name in opened.manifest.files:
            shutil.copyfile(bundle / name, directory / name)
        update: dict[str, Any] = {"policy": wanted, "golden": ()}
        draft = opened.manifest.model_copy(update=update)
        recommender = Recommender(Parts.load(Bundle(directory, draft, "")))
        golden = answer_golden(recommender, len(opened.manifest.golden))
        seal(directory, draft.model_copy(update={"golden": golden}))
        Recommender.load(directory).check_golden()
    return wanted


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as a policy in TOML: {error}") from error

"""How a server is run: what `recsys serve` takes on its command line and in its TOML file."""

import tomllib
from dataclasses import dataclass, replace
from os import cpu_count
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from features.errors import InputError
from serving.history import CAP, TIMEOUT, TTL

STRICT = ConfigDict(extra="forbid")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """One server."""

    __pydantic_config__ = STRICT

    host: str = "127.0.0.1"
    """Elsewhere than on loopback a token is required."""
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int = 0
    """0: the port after `port`."""
    token_file: str = ""
    """Holds the bearer token of the public listener; RECSYS_TOKEN replaces it."""
    admin_token_file: str = ""
    """Holds that of the admin listener; RECSYS_ADMIN_TOKEN replaces it. Empty: the same token."""
    state: str = ""
    """Where histories are kept: a file for SQLite, or redis://host:port/0. Empty: nowhere."""
    history_cap: int = CAP
    """Events kept of a user."""
    history_days: float = TTL / 86_400
    """Days a history is kept after its last event."""
    state_timeout_ms: float = TIMEOUT * 1_000
    index: str = ""
    """Qdrant that searches the item vectors, http://host:6333; RECSYS_INDEX_KEY is its key. Empty:
    this process searches."""
    index_timeout_s: float = 1.0
    """After which the remote index counts as failed, in whole seconds."""
    items: str = ""
    """Journal of items added and retired while serving. Empty: forgotten at the end."""
    refresh_seconds: float = 2.0
    """With a registry: how often CURRENT is looked at. 0: only when told to."""
    log: str = ""
    """Directory for exposures and feedback as Parquet. Empty: not logged."""
    log_seconds: float = 60.0
    """A file is written at least so often."""
    processes: int = 1
    """That share the port; their admin ports follow each other. One a core answers the most."""
    reuse_port: bool = False
    """Whether other processes may listen at the same port: `processes` sees to it."""
    threads: int = 0
    """Answers that a process computes at once. 0: all processes together one a core."""
    queue: int = 16
    """Requests that may wait for a thread; more are refused with 503."""
    deadline_ms: float = 1_000.0
    """Of a request that names none, from its arrival."""
    max_body_kib: int = 1_024
    drain_seconds: float = 5.0
    """After SIGTERM: how long it still answers while /readyz already says no."""
    playground: bool = True

    def __post_init__(self) -> None:
        for name in (
            "history_cap",
            "history_days",
            "state_timeout_ms",
            "deadline_ms",
            "index_timeout_s",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0")
        if self.processes < 1:
            raise ValueError(f"processes={self.processes} must be at least 1")
        for name in ("port", "admin_port"):
            if not 0 <= getattr(self, name) <= 65_535:
                raise ValueError(f"{name}={getattr(self, name)} is no port")
        for name in ("threads", "queue", "drain_seconds", "refresh_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")

    @property
    def num_threads(self) -> int:
        """Answers computed at once."""
        return self.threads or max((cpu_count() or 1) // self.processes, 1)

    @property
    def limit(self) -> int:
        """Requests inside at once, computed or waiting."""
        return self.num_threads + self.queue


def load_config(path: Path | None, overrides: dict[str, Any]) -> ServeConfig:
    """The [serve] section of a TOML file with the command line's word last; raises InputError."""
    section: Any = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as TOML: {error}") from error
        section = document.get("serve", {})
        if unknown := sorted(document.keys() - {"serve"}):
            raise InputError(f"{path}: {unknown[0]}: unknown section, expected [serve]")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return TypeAdapter(ServeConfig).validate_python({**section, **given})
    except (ValidationError, TypeError) as error:
        raise InputError(f"{path or 'serve'}: {_first(error)}") from error


def read_token(path: str, environment: str | None) -> str | None:
    """A bearer token, from the environment first; None where neither names one."""
    if environment:
        return environment
    if not path:
        return None
    try:
        token = Path(path).read_text().strip()
    except OSError as error:
        raise InputError(f"the token file {path} cannot be read: {error}") from error
    if not token:
        raise InputError(f"the token file {path} is empty")
    return token


def with_ports(config: ServeConfig) -> ServeConfig:
    """The config with the admin port settled."""
    if config.admin_port or not config.port:
        return config
    return replace(config, admin_port=config.port + 1)


def check_exposure(host: str, token: str | None, listener: str) -> None:
    """Raise InputError where a listener would be open to the network without a token."""
    if host not in LOOPBACK and not token:
        raise InputError(
            f"the {listener} listener is bound to {host}, beyond this machine: set RECSYS_TOKEN "
            f"(or token_file), or bind it to 127.0.0.1"
        )


def _first(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return f"[serve] must be a table ({error})"
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    unknown = first["type"] == "unexpected_keyword_argument"
    message = "unknown key: check its spelling" if unknown else first["msg"]
    return f"serve.{where}: {message} (found {first.get('input')!r})" if where else message

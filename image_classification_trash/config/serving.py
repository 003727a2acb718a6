"""Settings of `serve`."""

import re
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from image_classification_trash.config.base import ModelsFolder, Part, Positional, StageSettings


class BackendSettings(Part):
    """The model server that the gateway calls with `--runtime tf-serving`."""

    heading: ClassVar[str] = "Model server (--runtime tf-serving)"

    backend_url: str | None = Field(
        None, pattern=r"^https?://[^/?#\s]+/?$", description="Address of the model server's REST interface"
    )
    backend_model: str = Field(
        "trash", pattern=r"^[\w.-]+$", description="Name of the model on the model server"
    )
    backend_seconds: float = Field(5, gt=0, description="Seconds the model server may take; beyond it 504")
    backend_retries: int = Field(
        2, ge=0, le=10, description="Number of retries when the model server is away or busy; then 502"
    )
    backend_connections: int = Field(
        16, ge=1, le=256, description="Number of photos at the model server at once"
    )


class LimitSettings(Part):
    """Limits of the size and the duration of a request."""

    heading: ClassVar[str] = "Limits"

    queue_size: int = Field(
        32, ge=0, description="Number of photos that may wait for the model in each worker; beyond it 503"
    )
    max_requests: int = Field(
        128,
        ge=1,
        description="Number of requests that a worker holds at once, uploads included; beyond it 503",
    )
    max_connections: int = Field(
        512,
        ge=4,
        description="Number of connections that a worker holds at once; fewer where it may not open as many files",
    )
    max_photos: int = Field(16, ge=1, description="Largest number of photos in a request")
    max_mb: float = Field(
        32, gt=0, description="Largest request body, and largest photo behind a link, in MiB"
    )
    held_mb: float = Field(
        64,
        gt=0,
        description="Memory in MiB that bodies of requests and photos behind links may take together in each worker; beyond it 503",
    )
    upload_seconds: float = Field(60, gt=0, description="Seconds a request's body may take; beyond it 408")
    model_seconds: float = Field(
        10, gt=0, description="Seconds decoding and the model may take; beyond it 504"
    )
    stop_seconds: int = Field(30, ge=1, description="Seconds that a stop waits for requests in flight")

    @property
    def max_bytes(self) -> int:
        """Return `max_mb` in bytes."""
        return int(self.max_mb * 2**20)


class ProcessSettings(Part):
    """Processes, and what they may take."""

    heading: ClassVar[str] = "Processes"

    isolation: bool = Field(
        True, description="Photos are decoded in processes that can be ended, not in the gateway's own"
    )
    decode_seconds: float = Field(
        5,
        gt=0,
        description="Seconds of computing that decoding a photo may take with --isolation; beyond it 413",
    )
    decode_mb: int = Field(
        224,
        ge=224,
        description="Memory in MiB that photos above 48 MiB may take together in each worker; others wait",
    )
    worker_mb: int | None = Field(
        None,
        ge=1,
        description="Memory of a worker in MiB, beyond which a new one takes its place; by default, none",
    )


class LinkSettings(Part):
    """Which links to photos are fetched."""

    heading: ClassVar[str] = "Photos behind links"

    fetch_seconds: float = Field(
        10, gt=0, description="Seconds that fetching a photo may take, redirects included"
    )
    allowed_hosts: list[str] = Field(
        [],
        description="Hosts that photos are fetched from; *.example.org: those below it; none named: all public ones",
    )
    allowed_ports: list[int] = Field([80, 443], description="Ports that photos are fetched from")


class WebSettings(Part):
    """Pages of other origins, and a proxy in front."""

    heading: ClassVar[str] = "Browsers and proxies"

    cors_origins: list[str] = Field(
        [],
        description="Origins whose pages may ask from a browser, such as https://app.example.org; *: every page; "
        "none named: this gateway's own page",
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[\w.~-]+)*$",
        description="Path below which a proxy offers the gateway, such as /trash; the proxy may take it off or leave it",
    )

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if not re.fullmatch(r"\*|https?://[^/?#\s*]+", origin):
                raise ValueError(f"{origin} is not an origin, such as https://app.example.org, nor *")
        return origins


class AccessSettings(Part):
    """Who may ask what."""

    heading: ClassVar[str] = "Access"

    api_keys_file: Path | None = Field(
        None,
        description="Text file with API keys, one a line; requests must carry one of them, or one of TRASH_API_KEYS",
    )
    requests_per_minute: int | None = Field(
        None, ge=1, description="Number of requests that each API key has in a minute; beyond it 429"
    )
    server_hosts: list[str] = Field(
        [],
        description="Host names that requests may give this server beside addresses and private names; "
        "*.example.org: those below it; *: all",
    )
    metrics_path: str = Field(
        "/metrics", pattern=r"^(/[\w.~-]+)*$", description="Path of the metrics; empty: they are not offered"
    )
    traces: bool = Field(
        False, description="Traces of requests go to the OpenTelemetry collector that OTEL_* variables name"
    )
    reload_route: bool = Field(
        False, description="POST /v1/models/trash:reload loads the model again, as SIGHUP does"
    )


class StatisticsSettings(Part):
    """Counts of the answers, for `monitor`."""

    heading: ClassVar[str] = "Statistics"

    statistics: Path | None = Field(
        None, description="JSON file for counts of the answers, which `monitor` reads; new at each start"
    )
    statistics_seconds: float = Field(
        60, gt=0, description="Seconds between updates of the --statistics file"
    )


class ServeSettings(
    StatisticsSettings,
    AccessSettings,
    WebSettings,
    LinkSettings,
    ProcessSettings,
    LimitSettings,
    BackendSettings,
    ModelsFolder,
    StageSettings,
):
    """Answer requests: a REST gateway with a web page, for one model or one exported file."""

    stage: ClassVar[str] = "serve"
    usual: ClassVar[tuple[str, ...]] = (
        "model", "models_dir", "host", "port", "workers", "threads", "runtime", "backend_url", "queue_size",
        "max_mb", "allowed_hosts", "statistics",
    )  # fmt: skip

    model: Positional[Path | None] = Field(
        None,
        description="Model: a folder, name, version or alias, or an exported file; without one, production, or "
        "the newest in models/, or the one that comes with the package",
    )
    runtime: str = Field(
        "auto",
        description="Engine: litert, onnxruntime, tf-serving (a model server), or auto: the first of them that can",
    )
    threads: int = Field(
        1, ge=1, description="Number of threads of one run of the model; as many runs at once as cores allow"
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0: every network of this machine")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0: one that is free")
    workers: int = Field(1, ge=1, le=64, description="Number of processes; the cores are shared among them")

    @property
    def is_supervised(self) -> bool:
        """Whether workers are processes of their own, which a supervisor starts and replaces."""
        return self.workers > 1 or self.worker_mb is not None

    @model_validator(mode="after")
    def _model_server_named(self) -> Self:
        if (self.runtime == "tf-serving") != (self.backend_url is not None):
            raise ValueError("--runtime tf-serving and --backend-url belong together")
        return self

    @model_validator(mode="after")
    def _room_for_one_request(self) -> Self:
        if self.max_photos > self.queue_size + 1:
            raise ValueError("max_photos may be at most queue_size + 1, or a full request would never fit")
        return self

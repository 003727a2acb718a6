"""Settings of `serve`."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator
from pydantic_settings import (
    CliPositionalArg,
    SettingsConfigDict,
)

from image_classification_trash.config.base import ModelsFolder, StageSettings


class ServeSettings(ModelsFolder, StageSettings):
    """Answer requests: a REST gateway with a web page, for one bundle or one exported file."""

    stage: ClassVar[str] = "serve"
    model_config = SettingsConfigDict(env_prefix="TRASH_SERVE_")

    model: CliPositionalArg[Path | None] = Field(
        None,
        description="folder, name, version or alias of a bundle, or an exported file; default: production, or the newest in models/, or the shipped one",
    )
    runtime: str = Field(
        "auto",
        description="engine: litert, onnxruntime, tf-serving (a model server), or auto: the first that can",
    )
    backend_url: str | None = Field(
        None, pattern=r"^https?://[^/?#\s]+/?$", description="model server's REST interface; for tf-serving"
    )
    backend_model: str = Field(
        "trash", pattern=r"^[\w.-]+$", description="the model's name on the model server"
    )
    backend_seconds: float = Field(5, gt=0, description="for the model server to answer; beyond it 504")
    backend_retries: int = Field(
        2, ge=0, le=10, description="further tries when the model server is away or busy; then 502"
    )
    backend_connections: int = Field(16, ge=1, le=256, description="photos at the model server at once")
    threads: int = Field(1, ge=1, description="of one run of the model; as many runs at once as cores allow")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0: every network of this machine")
    port: int = Field(8080, ge=0, le=65535, description="to listen on; 0: one that is free")
    workers: int = Field(1, ge=1, le=64, description="processes that answer; the cores are shared among them")
    queue_size: int = Field(
        32, ge=0, description="photos that may wait for the model, in each worker; beyond it 503"
    )
    max_requests: int = Field(
        128, ge=1, description="requests held at once by a worker, uploads included; beyond it 503"
    )
    max_photos: int = Field(16, ge=1, description="photos of one request")
    max_mb: float = Field(32, gt=0, description="MiB of a request's body, and of a photo behind an address")
    upload_seconds: float = Field(60, gt=0, description="for a request's body to arrive; beyond it 408")
    fetch_seconds: float = Field(10, gt=0, description="for a photo behind an address, redirects included")
    model_seconds: float = Field(10, gt=0, description="for decoding and the model; beyond it 504")
    stop_seconds: int = Field(
        30, ge=1, description="for requests in flight to finish when the gateway is stopped"
    )
    allowed_hosts: list[str] = Field(
        [], description="hosts that photos are fetched from, *.example.org for those below; none: all public"
    )
    allowed_ports: list[int] = Field([80, 443], description="ports that photos are fetched from")
    statistics: Path | None = Field(
        None, description="JSON file for counts of the answers, which `monitor` reads; anew at each start"
    )
    statistics_seconds: float = Field(60, gt=0, description="between two writings of --statistics")

    @property
    def max_bytes(self) -> int:
        """`max_mb` in bytes."""
        return int(self.max_mb * 2**20)

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

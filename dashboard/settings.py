"""One registry of everything an operator may set.

Values come, strongest first, from arguments, from environment variables that start with `REALITY_CHECK_`, and from
`reality-check.toml` in the working directory. Field descriptions are the documentation: the settings page of the docs
is generated from them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

Role = Literal["viewer", "analyst", "administrator"]
ANALYST: Role = "analyst"
ADMINISTRATOR: Role = "administrator"
ROOT = Path(__file__).resolve().parent.parent
TOML_NAME = "reality-check.toml"
PREFIX = "REALITY_CHECK_"
_OTHERS = ("CACHE_DIR",)  # variables that are no settings: `model.runtimes` reads it


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "reality-check"


class Settings(BaseSettings):
    """What the dashboard and the command line may be told."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, toml_file=TOML_NAME, extra="forbid", frozen=True)

    folder_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Folders on the server whose images visitors may examine. Empty: only the bundled samples.",
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Where the application may write; runs, with images sent for them, are in its subfolder `runs`.",
    )
    default_checkpoint: str | None = Field(
        default=None, description="Name or path of the checkpoint to use. Unset: the bundled default."
    )
    default_checkpoint_sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="SHA-256 that the file of the default checkpoint must have; the server refuses any other. Unset: "
        "bundled checkpoints must be those that were shipped.",
    )
    runtime: Literal["torch", "cuda", "openvino", "onnxruntime", "auto"] = Field(
        default="torch",
        description="What computes the network; `cuda` is PyTorch on a GPU. `auto` measures at start what is there and "
        "takes the quickest.",
    )
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="Arithmetic of the network.")
    threads: int = Field(
        default=0,
        ge=0,
        description="Processor threads of the network. 0: as many as the runtime sees cores, which in a container may "
        "be more than it is given.",
    )
    preload: bool = Field(default=True, description="Load the network before the first visitor arrives.")
    batch_size: int = Field(default=16, ge=1, le=256, description="Faces per forward pass in bulk work.")

    max_upload_mb: int = Field(default=200, ge=1, description="Largest single file a browser may send, in MB.")
    session_upload_mb: int = Field(
        default=1000, ge=1, description="What one browser session may send within an hour, in MB."
    )
    session_upload_files: int = Field(
        default=1000, ge=1, description="Files one browser session may send within an hour."
    )
    total_upload_mb: int = Field(
        default=4000, ge=1, description="What the uploads of all sessions may take of the server's memory, in MB."
    )
    upload_seconds: float = Field(default=900, gt=0, description="Time within which one upload has to arrive.")
    max_visitors: int = Field(default=200, ge=1, description="Browser tabs that may be connected at one time.")
    max_zip_files: int = Field(default=20_000, ge=1, description="Entries a ZIP archive may have.")
    max_zip_mb: int = Field(default=4000, ge=1, description="Size of a ZIP archive when unpacked, in MB.")

    isolate_decoding: bool = Field(
        default=True,
        description="Decode pictures in helper processes, so that a hostile file cannot hang, exhaust or crash the "
        "server.",
    )
    decode_seconds: float = Field(default=20, gt=0, description="Time a helper has for one picture.")
    decode_mb: int = Field(default=3000, ge=500, description="Memory a helper may take, in MB.")

    max_queued_jobs: int = Field(default=40, ge=1, description="Background jobs that may wait or run at one time.")
    owner_queued_jobs: int = Field(default=4, ge=1, description="Of these, how many may be one person's.")
    owner_stored_mb: int = Field(
        default=20_000, ge=1, description="What one person's runs may take on disk, in MB; then some must be deleted."
    )
    min_free_mb: int = Field(
        default=500,
        ge=0,
        description="No run begins, and the server is not ready, with less free disk than this, in MB.",
    )
    resume_runs: bool = Field(
        default=True, description="Go on at start with runs that the end of the server interrupted."
    )
    reuse_results: bool = Field(
        default=True,
        description="A run takes over results of the same pictures, checkpoint and settings from its owner's finished "
        "runs; with `shared_runs`, from anybody's.",
    )
    keep_days: float | None = Field(
        default=None,
        gt=0,
        description="Days after which a run is deleted with its images; looked at when the server starts and when a "
        "run begins. Unset: runs are kept until somebody deletes them.",
    )
    shared_runs: bool = Field(
        default=False,
        description="All visitors see, open and delete all runs: for one person with several browsers, or a team "
        "without secrets. Otherwise runs are seen by those who began them alone.",
    )
    sign_in: bool | None = Field(
        default=None,
        description="Visitors must sign in. Unset: where an identity provider is configured, as `[auth]` in "
        "`.streamlit/secrets.toml`, or a proxy passes names on (`proxy_user_header`).",
    )
    proxy_user_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]+$",
        description="Header in which a proxy names the visitor who signed in there. Only where nobody reaches the "
        "server but through that proxy, and it replaces what visitors send under this name.",
    )
    roles: dict[str, Role] = Field(
        default_factory=dict,
        description="Roles of people by the e-mail address or name they sign in with: `viewer` examines single "
        "pictures, `analyst` also begins runs, `administrator` also deletes runs of others, without seeing into them.",
    )
    default_role: Role = Field(default=ANALYST, description="Role of everybody else.")
    confirm_purpose: bool = Field(
        default=False, description="Whoever begins a run must state its purpose, which is kept with the run."
    )
    open_metrics: bool = Field(
        default=False, description="Answer `/_stcore/metrics`, for everybody who can reach the server."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Form of the server's log lines.")
    log_details: bool = Field(
        default=False, description="Write messages of errors into the log, which may hold names of files."
    )

    @field_validator("folder_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        """Accept the notation of PATH in environment variables, beside a JSON list."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return tuple(part for part in value.split(os.pathsep) if part)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the TOML file."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()


def unknown_variables(names: Iterable[str]) -> dict[str, str]:
    """Environment variables that look like settings and are none, which nothing reads: each with the nearest known one.

    >>> unknown_variables(["REALITY_CHECK_THREAD", "REALITY_CHECK_THREADS", "PATH"])
    {'REALITY_CHECK_THREAD': 'REALITY_CHECK_THREADS'}
    """
    known = [PREFIX + name.upper() for name in (*Settings.model_fields, *_OTHERS)]
    unknown = [name for name in names if name.upper().startswith(PREFIX) and name.upper() not in known]
    return {name: get_close_matches(name.upper(), known, n=1, cutoff=0)[0] for name in unknown}


def sample_dir() -> Path:
    """The bundled sample images: beside the code in a checkout, inside the package when installed."""
    shipped = Path(__file__).resolve().parent / "_shipped" / "sample_images"
    return shipped if shipped.is_dir() else ROOT / "sample_images"

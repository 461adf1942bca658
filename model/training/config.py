"""One file says how a checkpoint is trained."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ExtraData(_Section):
    """A further collection: a folder and the manifest of its pictures."""

    root: Path
    manifest: Path


class DataConfig(_Section):
    """Where the labelled pictures are.

    Either a manifest (columns `path`, `label`, `split`; optionally `source`, `generator`) with `root`, or a labelled
    folder as `root` alone, which is then split at random, copies of a file alike. `folds` is a CSV with the columns
    `fold`, `label`, `source`, `generator` that names what each leave-one-out fold removes from training. `extra` are
    further collections with a manifest each, joined to the first one.
    """

    root: Path
    manifest: Path | None = None
    folds: Path | None = None
    extra: list[ExtraData] = []
    validation_share: float = Field(0.1, gt=0, lt=1)


class LinearConfig(_Section):
    """A linear head on frozen features, by weighted and regularised least squares.

    `views` random deliveries of each training picture join its clean view. `penalty` is the L2 penalty on standardised
    features.
    """

    kind: Literal["linear"] = "linear"
    views: int = Field(1, ge=0)
    penalty: float = Field(0.1, gt=0)


class DistilConfig(_Section):
    """What a frozen network learns before a head is fitted on it: the tokens of a teacher, without labels.

    `teacher` is a checkpoint of ours, by name or path. The network's deepest stages learn one of the teacher's `blocks`
    each, along so many `directions`, from so many `views` of each picture: the clean one and random deliveries.
    """

    teacher: str
    blocks: list[int] = Field(min_length=1)
    directions: int = Field(256, gt=0)
    views: int = Field(3, gt=0)
    epochs: float = Field(8, gt=0)
    batch_size: int = Field(32, gt=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    average_decay: float = Field(0.998, ge=0, lt=1)


class FinetuneConfig(_Section):
    """Gradient training of the whole network."""

    kind: Literal["finetune"] = "finetune"
    epochs: float = Field(8, gt=0)
    batch_size: int = Field(32, gt=1)
    learning_rate: float = Field(3e-4, gt=0)
    head_learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_share: float = Field(0.05, ge=0, lt=1)
    label_smoothing: float = Field(0.02, ge=0, lt=0.5)
    average_decay: float = Field(0.998, ge=0, lt=1)
    evaluate_every: int = Field(100, gt=0)
    patience: int = Field(8, gt=0)


class TrainConfig(_Section):
    """Everything that a training run depends on.

    `init` is `donor:NAME` (see `model.training.donors`), `imagenet` (torchvision downloads its weights), `scratch`,
    or the path of a checkpoint of ours.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,63}$")
    architecture: str
    options: dict[str, Any] = {}
    init: str = "scratch"
    seed: int = 0
    storage: Literal["float32", "float16", "int8"] = "float16"
    mean: list[float] = IMAGENET_MEAN
    std: list[float] = IMAGENET_STD
    framing: dict[str, Any] = {}
    max_false_positive_rate: float = Field(0.01, gt=0, lt=0.5)
    data: DataConfig
    distil: DistilConfig | None = None
    method: LinearConfig | FinetuneConfig = Field(discriminator="kind")
    licence: str = "Apache-2.0"

    @model_validator(mode="after")
    def _teach_what_is_frozen(self) -> TrainConfig:
        if self.distil is not None and not isinstance(self.method, LinearConfig):
            raise ValueError("distil is for a linear head, whose network is frozen afterwards")
        return self


def is_checkpoint(init: str) -> bool:
    """Whether `init` of a recipe is the path of a checkpoint of ours."""
    return init not in ("scratch", "imagenet") and not init.startswith("donor:")


class ConfigError(ValueError):
    """A training configuration that cannot be used."""


def load(path: Path) -> TrainConfig:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If the file is missing, not TOML, or has unknown or impossible entries; each is named.
    """
    try:
        return TrainConfig.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from error
    except ValidationError as error:
        entries = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{path}: {entries}") from error

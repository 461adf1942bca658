"""Makers shared by the tests: a drawn face, files in every format, tiny checkpoints. Nothing here needs a download."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFilter

from model.backbones import LinearHeadNet, tiny
from model.checkpoint import FORMAT, CheckpointInfo
from model.detector import Detector
from model.faces import Framing
from model.network import save
from model.training import data
from model.training.config import TrainConfig
from model.training.features import CropLoader
from model.training.views import box_for

SKIN = (225, 175, 150)
BACKDROP = (150, 160, 170)


def draw_face(side: int = 256, *, skin: tuple[int, int, int] = SKIN) -> Image.Image:
    """A frontal face as simple shapes, which the face finder takes for one (score above 0.99 from 30 px)."""
    large = side * max(1, min(4, 1024 // side))  # small ones are drawn larger and scaled down: smooth edges
    image = Image.new("RGB", (large, large), BACKDROP)
    pen = ImageDraw.Draw(image)
    shade = tuple(round(level * 0.9) for level in skin)

    def oval(x: float, y: float, across: float, down: float, colour: tuple[int, ...]) -> None:
        pen.ellipse([(x - across) * large, (y - down) * large, (x + across) * large, (y + down) * large], fill=colour)

    oval(0.5, 0.45, 0.31, 0.38, (60, 40, 30))  # hair
    pen.rectangle([0.42 * large, 0.75 * large, 0.58 * large, large], fill=shade)
    oval(0.5, 0.52, 0.26, 0.34, skin)
    for x in (0.39, 0.61):
        pen.rectangle([(x - 0.07) * large, 0.40 * large, (x + 0.07) * large, 0.42 * large], fill=(70, 45, 35))
        oval(x, 0.46, 0.06, 0.028, (250, 250, 250))
        oval(x, 0.46, 0.026, 0.026, (60, 40, 30))
    pen.polygon([(0.5 * large, 0.47 * large), (0.455 * large, 0.61 * large), (0.545 * large, 0.61 * large)], fill=shade)
    for x in (0.475, 0.525):
        oval(x, 0.605, 0.015, 0.01, (120, 70, 60))
    oval(0.5, 0.71, 0.095, 0.03, (170, 70, 70))
    pen.line([0.41 * large, 0.71 * large, 0.59 * large, 0.71 * large], fill=(110, 40, 40), width=max(1, large // 125))
    return image.filter(ImageFilter.GaussianBlur(large / 125)).resize((side, side), Image.Resampling.LANCZOS)


def crowd(columns: int = 4, rows: int = 3, side: int = 160) -> Image.Image:
    """Many faces of slightly different colour in one picture."""
    image = Image.new("RGB", (columns * side, rows * side), BACKDROP)
    for index in range(columns * rows):
        face = draw_face(side, skin=(225 - 4 * index, 175 - 3 * index, 150))
        image.paste(face, (index % columns * side, index // columns * side))
    return image


def labelled_faces(
    folder: Path, counts: Mapping[str, int], *, side: int, skins: int = 10, noise: int = 6, board: int = 0
) -> Path:
    """Drawn faces of both labels, so many of each per split, and their table: every other one is of the source `b`.

    Skins and pixels differ by `skins` and `noise` levels either way; what is "generated" carries a fine checkerboard,
    `board` levels from trough to crest. Beside `manifest.csv` stands `folds.csv`, whose one fold holds out `b`.
    """
    rng = np.random.default_rng(0)
    squares = (np.indices((side, side)).sum(0) % 8 < 4)[..., None] * board - board // 2
    rows = []
    for split, count in counts.items():
        for index in range(count):
            for label in ("real", "fake"):
                skin = tuple(int(level) for level in np.array(SKIN) + rng.integers(-skins, skins, 3))
                pixels = np.asarray(draw_face(side, skin=skin)).astype(int) + rng.integers(
                    -noise, noise, (side, side, 3)
                )
                pixels = pixels + squares if label == "fake" else pixels
                name = f"{split}_{label}_{index}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
                source = f"{label}_{'ab'[index % 2]}"
                rows.append({"path": name, "label": label, "split": split, "source": source, "generator": ""})
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "folds.csv").write_text("fold,label,source,generator\nb,fake,fake_b,\nb,real,real_b,\n")
    return folder / "manifest.csv"


def whole_pictures(recipe: TrainConfig, side: int) -> tuple[pd.DataFrame, CropLoader]:
    """The table of a recipe, and a loader of its pictures as they are, `side` wide: no face is looked for."""
    frame = data.load(recipe.data, seed=0)
    framing = Framing(**recipe.framing)
    boxes = [box_for(Image.new("RGB", (side, side)), [], framing)] * len(frame)
    return frame, CropLoader(frame, boxes, framing, recipe.mean, recipe.std, recipe.seed)


def encode(image: Image.Image, container: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, container, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour_type: int, packed: bytes) -> bytes:
    """A PNG made by hand, for what Pillow does not write. `packed` is the compressed rows, filter bytes included."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png16(image: Image.Image) -> bytes:
    """An RGB or grey image as 16-bit PNG: level v becomes 257 v."""
    levels = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    return png(image.width, image.height, 16, 2 if image.mode == "RGB" else 0, zlib.compress(rows))


def png_bomb(side: int = 30_000) -> bytes:
    """A white-on-nothing PNG of side x side pixels in about a hundred kilobytes."""
    packer = zlib.compressobj(1)
    row = bytes(1 + (side + 7) // 8)
    parts = [packer.compress(row * 1000) for _ in range(side // 1000)]
    return png(side, side, 1, 0, b"".join(parts) + packer.flush())


def header(**changes: Any) -> dict[str, Any]:
    """A complete checkpoint header for `tiny`."""
    return {
        "name": "tiny",
        "architecture": "tiny",
        "options": {},
        "framing": {"side": 224, "face_share": 0.83, "vertical_offset": 0.05, "jpeg_quality": 90},
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "classes": ["real", "fake"],
        "temperature": 1.5,
        "calibration_bias": 0.1,
        "thresholds": {"real": 0.3, "fake": 0.7, "fpr": 0.01},
        "training": {},
        "metrics": {},
        "licence": "Apache-2.0",
        "origin": "random",
        "created": "2025-01-01",
    } | changes


def randomise(network: LinearHeadNet, seed: int = 0, *, spread: float = 3.0) -> LinearHeadNet:
    """Give the head weights of both signs, so that evidence points both ways, and return the network for use."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        network.head.weight.copy_(torch.randn(network.head.weight.shape, generator=generator) * spread)
        network.head.bias.fill_(0.25)
    return network.eval().requires_grad_(False)


def tiny_network(seed: int = 0, *, channels: int = 8) -> LinearHeadNet:
    """`tiny` with random weights that depend on nothing but the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = tiny(channels=channels)
    return randomise(network, seed)


def save_tiny(path: Path, *, seed: int = 0, storage: str = "float32", **changes: Any) -> Path:
    """Write a tiny checkpoint and return its path."""
    save(path, tiny_network(seed), header(**changes), storage=storage)
    return path


def detector_of(network: LinearHeadNet, *, precision: str = "fp32", **changes: Any) -> Detector:
    """A detector around any network, without a file."""
    info = CheckpointInfo("in_memory", Path("in_memory.safetensors"), {"format": FORMAT} | header(**changes), "0" * 64)
    return Detector(info, lambda: network, precision=precision)

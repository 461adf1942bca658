"""Evidence drawn over a face: one signed colour scale, fixed for all pictures.

Blue is evidence toward a real photograph, orange toward an AI-generated one; no evidence is transparent. The two hues
stay apart for every common kind of colour blindness. Nothing is stretched per picture: a faint map is weak evidence.

Cells of different grids are compared by density: the log-odds that the whole face would carry if all of it looked like
this cell, which is the cell's evidence times the number of cells. `DENSITY_LIMIT` is where the colour saturates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dashboard.contrast import ink_on

DENSITY_LIMIT = 30.0  # nearly all cells of validation faces lie within it
OPACITY = 0.75
_FAKE_RAMP = np.array([[253, 214, 170], [240, 138, 46], [196, 84, 6]], dtype=np.float64)
_REAL_RAMP = np.array([[176, 212, 242], [58, 134, 208], [18, 74, 140]], dtype=np.float64)
_CAM_RAMP = np.array([[250, 230, 140], [226, 110, 120], [110, 30, 110]], dtype=np.float64)
CAM_STOPS = tuple(  # the ramp of class activation maps, as CSS colours
    f"rgba({r:.0f},{g:.0f},{b:.0f},{alpha})" for (r, g, b), alpha in zip(_CAM_RAMP, (0.0, 0.7, 1.0), strict=True)
)
BOX_COLOURS = {
    "fake": (224, 116, 16),
    "real": (38, 108, 186),
    "inconclusive": (120, 96, 176),
    "not_applicable": (110, 118, 126),
}


def cell_limit(shape: Sequence[int]) -> float:
    """Evidence, in log-odds per cell of an H x W grid, at which the colour saturates."""
    return DENSITY_LIMIT / (shape[0] * shape[1])


def _resize(values: np.ndarray, side: int, *, smooth: bool) -> np.ndarray:
    """(H, W) -> (side, side), bilinear or as plain cells."""
    # Cubic interpolation would ring: evidence of the other sign around every strong cell.
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(values.astype(np.float32), "F").resize((side, side), method))


def _ramp(strength: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Strength in [0, 1] of shape (S, S) -> RGB (S, S, 3) along a ramp of colours."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(strength, stops, colours[:, channel]) for channel in range(3)], axis=-1)


def colourise(evidence: np.ndarray, side: int, limit: float | None = None, *, smooth: bool = True) -> Image.Image:
    """Paint an evidence map.

    Parameters
    ----------
    evidence : ndarray of shape (H, W)
        Signed log-odds per cell.
    side : int
        Pixels of the picture's side.
    limit : float, optional
        Log-odds per cell at full colour; `cell_limit` of the grid by default.
    smooth : bool
        Interpolate between cells; False shows the cells as they are.

    Returns
    -------
    PIL.Image.Image
        RGBA of side x side pixels; alpha grows with the strength of the evidence.
    """
    limit = cell_limit(evidence.shape) if limit is None else limit
    values = _resize(evidence, side, smooth=smooth) / limit
    strength = np.clip(np.abs(values), 0, 1)
    colour = np.where((values > 0)[..., None], _ramp(strength, _FAKE_RAMP), _ramp(strength, _REAL_RAMP))
    alpha = strength[..., None] * 255  # weak evidence stays faint, and the face visible beneath it
    return Image.fromarray(np.concatenate([colour, alpha], axis=-1).round().astype(np.uint8), "RGBA")


def _blend(crop: Image.Image, layer: Image.Image, opacity: float) -> Image.Image:
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    alpha = layer.getchannel("A").point(lambda value: round(value * opacity))
    layer.putalpha(alpha)
    return Image.alpha_composite(crop.convert("RGBA"), layer).convert("RGB")


def overlay(
    crop: Image.Image,
    evidence: np.ndarray,
    *,
    opacity: float = OPACITY,
    limit: float | None = None,
    smooth: bool = True,
) -> Image.Image:
    """Lay an evidence map (H, W) over a square face crop; `opacity` in [0, 1]."""
    return _blend(crop, colourise(evidence, crop.width, limit, smooth=smooth), opacity)


def colourise_cam(cam: np.ndarray) -> Image.Image:
    """Paint a class activation map (S, S) in [0, 1] as RGBA of S x S pixels.

    Its own colours: such a map is scaled per picture and has no sign, so it must not look like an evidence map.
    """
    strength = np.clip(cam, 0, 1)
    layer = np.concatenate([_ramp(strength, _CAM_RAMP), np.sqrt(strength)[..., None] * 255], axis=-1)
    return Image.fromarray(layer.round().astype(np.uint8), "RGBA")


def overlay_cam(crop: Image.Image, cam: np.ndarray, *, opacity: float = OPACITY) -> Image.Image:
    """Lay a class activation map (S, S) in [0, 1] over a square face crop; see `colourise_cam`."""
    return _blend(crop, colourise_cam(_resize(cam, crop.width, smooth=True)), opacity)


def boxed(
    image: Image.Image,
    boxes: Sequence[tuple[float, float, float, float]],
    verdicts: Sequence[str],
    *,
    max_side: int = 1100,
) -> Image.Image:
    """Draw numbered face boxes, in pixels of `image`, on a copy no larger than `max_side`."""
    scale = min(1.0, max_side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0) if scale < 1 else image.copy()
    draw = ImageDraw.Draw(canvas)
    line = max(2, round(max(size) / 260))
    font = ImageFont.load_default(size=max(12, round(max(size) / 40)))
    for number, (box, verdict) in enumerate(zip(boxes, verdicts, strict=True), start=1):
        colour = BOX_COLOURS[verdict]
        x0, y0, x1, y1 = (value * scale for value in box)
        draw.rectangle((x0 - line, y0 - line, x1 + line, y1 + line), outline=(255, 255, 255), width=line)
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=line)
        if len(boxes) > 1:
            text = str(number)
            left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
            pad = line + 2
            x, y = max(x0, 0), max(y0, 0)
            draw.rectangle((x, y, x + right - left + 2 * pad, y + bottom - top + 2 * pad), fill=colour)
            draw.text((x + pad - left, y + pad - top), text, fill=ink_on(colour), font=font)
    return canvas

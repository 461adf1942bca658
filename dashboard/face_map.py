"""A face, what is painted over it, and numbers under the pointer: HTML without script.

Layers are stacked pictures; outlines scale with the page; over them lie clear zones that show a line of text when they
are pointed at, tapped, or reached with the Tab key, and that are named by it for those who cannot see.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from dashboard import words
from dashboard.overlay import cell_limit, colourise
from model.evidence import area_shares
from model.regions import LABELS, outlines
from model.results import FaceResult

_STYLE = """
.rc-map{position:relative;width:100%;line-height:1.35}
.rc-face{position:relative;width:100%;aspect-ratio:1;border-radius:.4rem;overflow:hidden;isolation:isolate}
.rc-stack{position:absolute;inset:0}
.rc-stack>img{position:absolute;inset:0;width:100%;height:100%;display:block}
.rc-stack>img.rc-cells{image-rendering:pixelated}
.rc-zone{position:absolute;pointer-events:none}
.rc-zone>div{position:absolute;inset:0;pointer-events:auto;cursor:crosshair}
.rc-zone:hover>div,.rc-zone:focus>div{background:rgba(255,255,255,.28)}
.rc-zone:focus-visible{outline:2px solid #fff;outline-offset:-3px;box-shadow:inset 0 0 0 5px #000}
.rc-notes{position:relative;min-height:2.8em;font-size:.86rem;padding-top:.3rem}
.rc-note{display:none}
.rc-hint{opacity:.75}
.rc-scale{opacity:var(--rc-opacity,1);height:.75rem;border:1px solid rgba(128,128,128,.45);border-radius:.2rem}
.rc-ends{display:flex;justify-content:space-between;font-size:.8rem;opacity:.85;padding-top:.1rem}
"""


@dataclass(frozen=True)
class Zone:
    """Part of the face that says something when it is pointed at.

    Attributes
    ----------
    outlines : sequence of ndarray of shape (N, 2)
        Closed outlines (x, y) as shares of the picture's side; where an even number of them overlap is outside.
    text : str
        Plain text.
    reachable : bool
        Whether the Tab key stops at it; not for the many that a table says as well.
    """

    outlines: Sequence[np.ndarray]
    text: str
    reachable: bool = True


def region_zones(face: FaceResult, masks: Mapping[str, np.ndarray]) -> list[Zone]:
    """One zone per facial region; its text gives log-odds, share of the evidence and share of the area."""
    total = sum(abs(value) for name, value in face.ledger.items() if name != "bias") or 1.0
    zones = []
    for name, parts in outlines(masks).items():
        side, value, area = masks[name].shape[0], face.ledger[name], face.regions_share[name]
        text = (
            f"{LABELS[name]}: {abs(value):.2f} log-odds toward {'AI' if value > 0 else 'real'}, "
            f"{abs(value) / total:.0%} of the evidence on {area:.0%} of the area"
        )
        if parts:
            zones.append(Zone([part / side for part in parts], text))
    return zones


def cell_zones(face: FaceResult, masks: Mapping[str, np.ndarray]) -> list[Zone]:
    """One zone per cell of the evidence map; its text gives log-odds and the region that covers most of the cell."""
    assert face.evidence is not None
    rows, columns = face.evidence.shape
    covers = area_shares(masks, face.evidence.shape)
    names = list(covers)
    most = np.stack([covers[name] for name in names]).argmax(axis=0)
    zones = []
    for row in range(rows):
        for column in range(columns):
            x, y = np.array([column, column + 1]) / columns, np.array([row, row + 1]) / rows
            corners = np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]])
            value = float(face.evidence[row, column])
            place = f"row {row + 1}, column {column + 1}, mostly {LABELS[names[most[row, column]]].lower()}"
            text = f"{words.signed(value, 3)} log-odds in this cell ({place})"
            zones.append(Zone([corners], text, reachable=False))
    return zones


def face_map(
    crop: Image.Image,
    label: str,
    *,
    layer: Image.Image | None = None,
    opacity: float = 1.0,
    pixelated: bool = False,
    outlined: Mapping[str, np.ndarray] | None = None,
    zones: Iterable[Zone] = (),
    hint: str = "",
    legend: str = "",
) -> str:
    """The face as HTML that is as wide as its place.

    Parameters
    ----------
    label : str
        What the picture shows, for those who cannot see it.
    layer : PIL.Image.Image, optional
        RGBA, laid over the crop with `opacity` in [0, 1].
    pixelated : bool
        Scale the layer up without smoothing.
    outlined : mapping of str to ndarray of shape (S, S), bool, optional
        Regions whose outlines are drawn.
    hint : str
        Shown while nothing is pointed at.
    legend : str
        HTML below, such as `scale`; its colours are as clear as the layer.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    parts = [f'<img src="{_uri(crop)}" alt="">']
    if layer is not None:
        kind = ' class="rc-cells"' if pixelated else ""
        parts.append(f'<img src="{_uri(layer)}" alt=""{kind} style="opacity:{opacity:.2f}">')
    if outlined is not None:
        parts.append(f'<img src="{_outline_uri(outlined)}" alt="">')
    areas, notes, rules = [], [], []
    for number, zone in enumerate(zones):
        areas.append(_area(zone, number))
        notes.append(f'<div class="rc-note rc-n{number}">{escape(zone.text)}</div>')
        here = f".rc-map:has(.rc-z{number}:hover)"
        rules.append(f"{here} .rc-n{number},.rc-map:not(:has(.rc-zone:hover)):has(.rc-z{number}:focus) .rc-n{number}")
    rule = f"{','.join(rules)}{{display:block}}.rc-map:has(.rc-zone:hover,.rc-zone:focus) .rc-hint{{display:none}}"
    below = f'<div class="rc-notes"><div class="rc-hint">{escape(hint)}</div>{"".join(notes)}</div>' if hint else ""
    return (
        f"<style>{_STYLE}{rule if rules else ''}</style>"
        f'<div class="rc-map" style="--rc-opacity:{opacity:.2f}"><div class="rc-face">'
        f'<div class="rc-stack" role="img" aria-label="{escape(label)}">{"".join(parts)}</div>'
        f"{''.join(areas)}</div>{legend}{below}</div>"
    )


def evidence_scale(shape: Sequence[int]) -> str:
    """Legend of the fixed scale of evidence maps of an H x W grid, as HTML."""
    limit = cell_limit(shape)
    ramp = colourise(np.linspace(-limit, limit, 41)[None, :].repeat(41, axis=0), 41, limit, smooth=False)
    stops = [f"rgba({r},{g},{b},{a / 255:.2f})" for r, g, b, a in np.asarray(ramp)[20].tolist()]
    return scale(stops, (f"\N{MINUS SIGN}{limit:.2f} real", "0", f"AI +{limit:.2f}"))


def scale(stops: Sequence[str], texts: Sequence[str]) -> str:
    """A bar that runs through CSS colours, with texts spread below it, as HTML."""
    ends = "".join(f"<span>{escape(text)}</span>" for text in texts)
    bar = f'<div class="rc-scale" style="background:linear-gradient(90deg,{",".join(stops)})"></div>'
    return f'<div style="padding-top:.4rem">{bar}<div class="rc-ends">{ends}</div></div>'


def _area(zone: Zone, number: int) -> str:
    """A zone as HTML: its bounding box, which is what gets the focus, and in it the clipped part that is pointed at."""
    points = np.concatenate(list(zone.outlines))
    low = points.min(axis=0)
    size = np.maximum(points.max(axis=0) - low, 1e-6)
    (left, top), (width, height) = 100 * low, 100 * size
    named = f' tabindex="0" role="img" aria-label="{escape(zone.text)}"' if zone.reachable else ""
    shape = _polygon([(part - low) / size for part in zone.outlines])
    return (
        f'<div class="rc-zone rc-z{number}"{named} '
        f'style="left:{left:.2f}%;top:{top:.2f}%;width:{width:.2f}%;height:{height:.2f}%">'
        f'<div style="clip-path:{shape}"></div></div>'
    )


def _polygon(parts: Sequence[np.ndarray]) -> str:
    """Outlines as one CSS polygon: a bridge to each part and back has no area."""
    start = parts[0][0]
    points = []
    for part in parts:
        points += [*part, part[0], start]
    return "polygon(evenodd," + ",".join(f"{100 * x:.1f}% {100 * y:.1f}%" for x, y in points) + ")"


def _outline_uri(masks: Mapping[str, np.ndarray]) -> str:
    side = next(iter(masks.values())).shape[0]
    data = "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in part) + "Z"
        for parts in outlines(masks).values()
        for part in parts
    )
    line = '<path d="{}" fill="none" stroke="{}" stroke-width="{}" stroke-linejoin="round"/>'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">'
        + line.format(data, "rgba(0,0,0,.45)", 1.5)
        + line.format(data, "rgba(255,255,255,.85)", 0.6)
        + "</svg>"
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""How results are said: the same words on every page."""

from __future__ import annotations

from dataclasses import dataclass

from model import quality
from model.calibration import FAKE, INCONCLUSIVE, NOT_APPLICABLE, REAL, Thresholds
from model.results import ImageResult

HONEST_USE = (
    "A verdict is a measurement with a known error rate, not proof. Do not accuse, block or report a person on it "
    "alone: look for the original file, its source and a second opinion."
)
NOT_A_LIE_DETECTOR = (
    "A heatmap shows which parts of the face moved this network's score, and in which direction. It does not show "
    "where a picture was edited, and a vivid map is not a stronger proof than the score itself."
)
CAM_CAVEAT = (
    "Maps of the Grad-CAM family are stretched to their own maximum and keep only evidence toward AI-generated: they "
    "glow on every picture, a real photograph included. They show where, never how much. They are here for comparison."
)


@dataclass(frozen=True)
class Verdict:
    """How one verdict looks and reads."""

    title: str
    short: str
    colour: str  # one of Streamlit's named colours
    icon: str


VERDICTS = {
    FAKE: Verdict("AI-generated", "AI-generated", "orange", ":material/smart_toy:"),
    REAL: Verdict("Real photograph", "Real", "blue", ":material/photo_camera:"),
    INCONCLUSIVE: Verdict("Inconclusive", "Inconclusive", "violet", ":material/balance:"),
    NOT_APPLICABLE: Verdict("Not applicable", "Not applicable", "gray", ":material/block:"),
}


def percent(value: float, digits: int = 1) -> str:
    """A probability in words that never claim certainty.

    >>> percent(0.973), percent(0.9999), percent(0.0)
    ('97.3 %', 'over 99.9 %', 'under 0.1 %')
    """
    least = 10.0**-digits
    if value * 100 > 100 - least:
        return f"over {100 - least:.{digits}f} %"
    if value * 100 < least:
        return f"under {least:.{digits}f} %"
    return f"{value * 100:.{digits}f} %"


def rate(value: float) -> str:
    """A threshold or rate as a short percentage.

    >>> rate(0.01), rate(0.8251), rate(0.005)
    ('1 %', '82.5 %', '0.5 %')
    """
    return f"{value * 100:.1f}".removesuffix(".0") + " %"


def summary(result: ImageResult) -> str:
    """One sentence that says what was found."""
    if result.verdict == NOT_APPLICABLE:
        return quality.explain(result.reason, result.error) or "This picture cannot be judged."
    face = "The face" if len(result.faces) == 1 else f"Face {(result.deciding_face or 0) + 1} of {len(result.faces)}"
    if result.verdict == FAKE:
        return f"{face} carries the traces of image generators that this detector knows."
    if result.verdict == REAL:
        return f"{face} carries none of the traces of image generators that this detector knows."
    return f"{face} gives evidence in both directions; the probability lies between the two thresholds."


def threshold_note(thresholds: Thresholds) -> str:
    """What the thresholds mean, in one or two sentences."""
    note = (
        f"Called AI-generated from {rate(thresholds.fake)} upward and real up to {rate(thresholds.real)}; "
        "in between the detector abstains."
    )
    if thresholds.custom:
        return f"{note} These thresholds were set by hand: their false-alarm rate is not known."
    if thresholds.fpr is None:
        return f"{note} No false-alarm rate is stated for them."
    per = round(1 / thresholds.fpr) if thresholds.fpr > 0 else None
    odds = f", about 1 in {per:,}" if per else ""
    return (
        f"{note} At the upper one at most {rate(thresholds.fpr)} of real photographs were flagged in validation{odds}."
    )


def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "picture"), count(1200, "picture")
    ('1 picture', '1,200 pictures')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """A time span for people.

    >>> duration(0.42), duration(42), duration(125), duration(7300)
    ('under 1 s', '42 s', '2 min 5 s', '2 h 1 min')
    """
    if seconds < 1:
        return "under 1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: int) -> str:
    """A file size.

    >>> size(900), size(250_000), size(3_400_000)
    ('900 B', '250 KB', '3.4 MB')
    """
    if count < 1000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1000:.0f} KB"
    return f"{count / 1e6:.1f} MB"


def plain(text: str) -> str:
    r"""Text of unknown origin, such as a file name, made safe to stand inside Markdown.

    >>> plain("a_b*[x](y).png")
    'a\\_b\\*\\[x\\]\\(y\\).png'
    """
    return "".join("\\" + character if character in "\\`*_{}[]()<>#+!|~$:" else character for character in text)

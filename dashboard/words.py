"""How results are said: the same words on every page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from model import metrics, quality
from model.accuracy import leave_one_out, unseen_fake, unseen_real
from model.calibration import FAKE, INCONCLUSIVE, NOT_APPLICABLE, REAL, Thresholds
from model.checkpoint import CheckpointInfo
from model.faithfulness import Faithfulness, Margin, Whereabouts
from model.regions import LABELS
from model.results import ImageResult
from model.tiers import TIERS
from model.typical import Band, Typical, Unusual
from model.what_if import WithoutRegion

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
    "glow on almost every picture, a real photograph included. They show where, never how much. EigenCAM does not know "
    "of the verdict at all: it shows where the picture varies most for the network. They are here for comparison."
)
RESEMBLES = {
    FAKE: "To this detector, {face} resembles faces of image generators more than photographs, beyond its upper "
    "threshold. Some photographs do so too.",
    REAL: "To this detector, {face} resembles photographs more than faces of image generators, below its lower "
    "threshold. Generated faces can do so too, of generators that it knows and more often of others.",
    INCONCLUSIVE: "The probability of {face} lies between the two thresholds: this detector does not decide.",
}
BACKGROUND_CAVEAT = (
    "Cells see beyond their own place, in a transformer the whole picture, so that this need not be evidence against "
    "the face; but do not rest a judgement of the face on it alone."
)
INFILL_CAVEAT = (
    "A filled-in part is itself artificial, and the detector may take that as a cue: read these numbers as a hint at "
    "what the score hangs on, not as what the face would score without the part."
)
SAME_SOURCE = (
    "what other samples from the same source would give. Other cameras, generators or platforms can lie outside it."
)
ONE_CLASS = (
    "With one class alone, precision, F1 and calibration say what the set is made of, not how good the detector is: do "
    "not quote them."
)
NOTHING = "\N{EN DASH}"  # in a cell of a table that has no value
UNCERTAIN = (0.0001, 0.9999)  # a probability in a table of two decimals never reads 0 % or 100 %
NO_ERROR_RATE = "No error rate has been measured for this checkpoint."
CHECKPOINT_GONE = (
    "The checkpoint that judged this ({digest} …) is not installed any more; its card has its error rates."
)
HALF_AND_HALF = (
    "Probabilities are stated for a set of which half is generated: on another mix, part of the gap comes of the mix."
)
DIGEST = 8  # characters of a SHA-256 that tell two checkpoints of one name apart
STABLE = 0.7  # correlation from which a map counts as the same


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


def probability(p_fake: float, thresholds: Thresholds) -> str:
    """A probability with as many digits as it takes to lie on its side of the thresholds as `threshold_note` has them.

    >>> band = Thresholds(real=0.0929, fake=0.9136)
    >>> probability(0.0933, band), probability(0.0950, band), probability(0.91359, band)
    ('9.33 %', '9.5 %', '91.359 %')
    """
    return percent(p_fake, _digits(p_fake, thresholds))


def _digits(p_fake: float, thresholds: Thresholds) -> int:
    """Digits of percent at which rounding leaves a probability on its side of both thresholds."""

    def told(digits: int) -> bool:
        shown, real, fake = (round(100 * value, digits) for value in (p_fake, thresholds.real, thresholds.fake))
        return (shown >= fake, shown <= real) == (p_fake >= thresholds.fake, p_fake <= thresholds.real)

    return next(filter(told, range(1, 8)), 8)


def rate(value: float, least: int = 1) -> str:
    """A threshold or rate as a short percentage, with two digits of what it lacks to 0 or 100 %, and `least` at least.

    >>> rate(0.01), rate(0.8251), rate(0.0001), rate(0.9998), rate(1.0)
    ('1 %', '82.5 %', '0.01 %', '99.98 %', '100 %')
    """
    lacking = 100 * min(value, 1 - value)
    digits = max(least, 1 - math.floor(math.log10(lacking)) if 0 < lacking < 1 else 1)
    return f"{value * 100:.{digits}f}".rstrip("0").rstrip(".") + " %"


def summary(result: ImageResult) -> str:
    """What was found, in a sentence or two."""
    if result.verdict == NOT_APPLICABLE:
        return quality.explain(result.reason, result.error) or "This picture cannot be judged."
    face = "the face" if len(result.faces) == 1 else f"face {(result.deciding_face or 0) + 1} of {len(result.faces)}"
    return RESEMBLES[result.verdict].format(face=face)


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, as set on paper.

    >>> signed(1.234), signed(-0.5), signed(-0.001)
    ('+1.23', '−0.50', '0.00')
    """
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def nine_in_ten(band: Band) -> str:
    """Between which log-odds nine in ten faces lie.

    >>> nine_in_ten(Band(-0.31, -0.2, -0.1, 0.0, 0.09))
    '−0.31 to +0.09'
    """
    return f"{signed(band.p5)} to {signed(band.p95)}"


def unusual(usual: Typical, ledger: Mapping[str, float], most: int = 3) -> str:
    """Which regions are unusual for a real face and to which side, and how often faces have one toward generated."""
    found = usual.unusual(ledger)
    above, below = [one for one in found if one.above], [one for one in found if not one.above]
    outcomes = [
        f"{kind} than in 95 of 100 real faces: {_bands(ones, most)}."
        for kind, ones in (("More like a generated face", above), ("More like a photograph", below))
        if ones
    ] or ["No part is unusual for a real face: each lies where it does in nine of ten."]
    outcomes.append(
        f"A part that is more like a generated face than in 95 of 100 real ones is found in "
        f"{percent(usual.above_real, 0)} of real faces and {percent(usual.above_fake, 0)} of AI-generated ones "
        f"(measured on {usual.n_real} and {usual.n_fake})."
    )
    return " ".join(outcomes)


def _bands(found: Sequence[Unusual], most: int) -> str:
    parts = [
        f"{LABELS[one.region].lower()} {signed(one.value)} (nine in ten: {nine_in_ten(one.band)})"
        for one in found[:most]
    ]
    more = f", and {count(len(found) - most, 'more part')}" if len(found) > most else ""
    return f"{', '.join(parts)}{more}"


def evidence_lies(where: Whereabouts) -> str:
    """Where the evidence lies.

    >>> evidence_lies(Whereabouts(0.6, 0.3, 0.1))
    'Of the evidence, 60.0 % lies on the face, 30.0 % on hair and neck, 10.0 % on the background.'
    """
    more = " The background carries more of it than the face." if where.alarm else ""
    return (
        f"Of the evidence, {percent(where.face)} lies on the face, {percent(where.boundary)} on hair and neck, "
        f"{percent(where.background)} on the background.{more}"
    )


def margin_alarm(found: Margin) -> str | None:
    """What to beware of where a verdict hangs on the background, or on any of several parts; None where it does not.

    >>> margin_alarm(Margin({"nose": "real", "jaw": "inconclusive"}, background_decides=False))
    'The verdict hangs on a narrow margin: it would change without the score of any one of these: nose, jaw and chin.'
    """
    if found.background_decides:
        return (
            "The background decided: no part on its side weighs more, and without its part of the score the verdict "
            f"would be {VERDICTS[found.turning['background']].title}. {BACKGROUND_CAVEAT}"
        )
    if len(found.turning) < 2:
        return None
    parts = ", ".join(LABELS[name].lower() for name in found.turning)
    return f"The verdict hangs on a narrow margin: it would change without the score of any one of these: {parts}."


def what_if(verdict: str, moves: Sequence[WithoutRegion]) -> str:
    """What filling parts of the face in did to its verdict."""
    changed = [LABELS[entry.region].lower() for entry in moves if entry.verdict != verdict]
    most = max(moves, key=lambda entry: abs(entry.move), default=None)
    if most is None:
        return "No part of the face could be taken away."
    outcome = (
        f"The verdict changes where one of these is filled in: {', '.join(changed)}."
        if changed
        else "The verdict stays whichever part is filled in."
    )
    return (
        f"{outcome} Filling in moves the score most at: {LABELS[most.region].lower()} ({signed(most.move)} log-odds); "
        "any in-fill can itself be a cue."
    )


def map_is_faithful(found: Faithfulness) -> str:
    """What the removal test says of a map."""
    randoms = f"all of {count(len(found.random), 'random map')}"
    if found.road <= 0:
        outcome = "What the map calls relevant does not move the score as it says: do not rely on where it points."
    elif not found.beats_random:
        outcome = f"The map did not score above {randoms}: do not rely on where it points."
    elif not found.beats_centre:
        outcome = f"The map scored above {randoms}, but not above the centre: it may show no more than where faces are."
    else:
        outcome = f"The map scored above {randoms} and the centre."
    return (
        f"{outcome} Taking away what it calls relevant counts {signed(found.road)} log-odds (ROAD); by random maps "
        f"{signed(found.road_random)}, by a map of the centre {signed(found.centre.road)}."
    )


def map_is_stable(found: Faithfulness) -> str:
    """What mirroring and saving again do to a map and to the score."""
    least = min(found.flip, found.reencoded)
    outcome = "The map is stable." if least >= STABLE else "The map is not stable: read its finer parts with caution."
    return (
        f"{outcome} Mirrored, it agrees by r = {found.flip:.2f} and the score moves by {signed(found.flip_move)} "
        f"log-odds; saved again as JPEG, r = {found.reencoded:.2f} and {signed(found.reencoded_move)}."
    )


def limits(thresholds: Thresholds, p_fake: float | None = None) -> tuple[str, str]:
    """The lower and the upper threshold, exact enough to tell on which side of them `p_fake` is.

    >>> limits(Thresholds(real=0.0929, fake=0.9136), 0.0933)
    ('9.29 %', '91.36 %')
    """
    digits = 1 if p_fake is None else _digits(p_fake, thresholds)
    return rate(thresholds.real, digits), rate(thresholds.fake, digits)


def threshold_note(thresholds: Thresholds, p_fake: float | None = None) -> str:
    """What the thresholds mean, in one or two sentences; exact enough to tell on which side of them `p_fake` is."""
    real, fake = limits(thresholds, p_fake)
    note = f"Called AI-generated from {fake} upward and real up to {real}; in between the detector abstains."
    if thresholds.custom:
        return f"{note} These thresholds were set by hand: their false-alarm rate is not known."
    if thresholds.fpr is None:
        return f"{note} No false-alarm rate is stated for them."
    per = round(1 / thresholds.fpr) if thresholds.fpr > 0 else None
    odds = f", about 1 in {per:,}" if per else ""
    return (
        f"{note} At the upper one at most {rate(thresholds.fpr)} of real photographs were flagged in validation{odds}."
    )


def error_heading(verdict: str) -> str:
    """What stands over `stated_error_rates`: they are of the detector, not of the verdict at hand."""
    return "How often it does not decide" if verdict == INCONCLUSIVE else "How often the detector errs"


def stated_error_rates(info: CheckpointInfo, verdict: str, thresholds: Thresholds) -> str:
    """How often the detector errs in the way that this verdict may be wrong, by the figures in the checkpoint's header.

    For `fake`, photographs that are wrongly flagged; for `real`, generated faces that are called real; for
    `inconclusive` and `not_applicable`, how often that is the answer. Sources that were not in training come before
    those that were, and of the evaluation tiers the worst one counts.

    Parameters
    ----------
    verdict : str
        One of `model.calibration.VERDICTS`.
    thresholds : Thresholds
        Those that the verdict was made with.

    Returns
    -------
    str
        Plain text without Markdown.
    """
    measured = info.header["metrics"]
    if verdict == FAKE:
        rates = _false_alarms(measured, info.thresholds.fpr)
    elif verdict == REAL:
        rates = _missed(measured)
    elif verdict == INCONCLUSIVE:
        rates = _undecided(measured, verdict, "left inconclusive")
    else:
        rates = _undecided(measured, verdict, "wrongly refused as not applicable")
    if not rates:
        return NO_ERROR_RATE
    own = (thresholds.real, thresholds.fake) == (info.thresholds.real, info.thresholds.fake)
    moved = "" if own else " This holds for the checkpoint's own thresholds, not for those set by hand."
    unlike = f" {_NOT_THIS_VERDICT}" if verdict == FAKE else ""
    return f"{rates}{moved}{unlike} From the card of {info.name} on the Models page."


_NOT_THIS_VERDICT = (
    "That is not the chance that this verdict is wrong, which also depends on how common AI-generated pictures are "
    "where this one was found."
)


def _false_alarms(measured: Mapping[str, Any], limit: float | None) -> str:
    """`limit` is the rate that the threshold was set for; None where it is not stated."""
    if unseen := _worst_tier(unseen_real(measured)):
        tier, found = unseen
        wrongly = of_hundred(found["mean"], "wrongly flagged as AI-generated at this setting")
        within = "on these very photographs" if limit is None else f"so that at most {rate(limit)} of these are flagged"
        return (
            f"Of 100 photographs of sources left out of training{_DEGRADED[tier]}, {wrongly}. The threshold was set "
            f"{within}: expect more of others."
        )
    tested = _tested(measured, "fpr")
    if not tested:
        return ""
    worst = max(tested, key=lambda name: tested[name]["value"])
    wrongly = of_hundred(tested[worst], "wrongly flagged as AI-generated at this setting")
    return f"Of 100 photographs of kinds it was trained on{_DEGRADED[worst]}, {wrongly}; expect more of other kinds."


def _missed(measured: Mapping[str, Any]) -> str:
    if unseen := _worst_tier(unseen_fake(measured)):
        tier, found = unseen
        passed = of_hundred(found["mean"], "called real at this setting")
        return (
            f"Of 100 AI-generated faces from generators it never saw in training{_DEGRADED[tier]}, {passed}; of the "
            f"worst of these {found['sources']} sources, about {100 * found['worst']['value']:.0f}."
        )
    folds = leave_one_out(measured)
    if folds is not None and (mean := folds["tpr_at_1_percent_fpr"]["mean"])["value"] is not None:
        flagged = of_hundred(mean, "flagged at a setting that wrongly flags 1 in 100 photographs")
        return (
            f"Of 100 AI-generated faces from generators it never saw in training, {flagged}; the others pass as real "
            "or inconclusive."
        )
    tested = _tested(measured, "recall")
    if not tested:
        return ""
    worst = min(tested, key=lambda name: tested[name]["value"])
    flagged = of_hundred(tested[worst], "flagged at this setting")
    return (
        f"Of 100 AI-generated faces from generators it was trained on{_DEGRADED[worst]}, {flagged}; expect fewer of "
        "others."
    )


def _worst_tier(found: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any]] | None:
    """The evaluation tier whose mean is largest, and its figures; None where no mean is defined."""
    tiers = {name: tier for name, tier in (found or {}).items() if tier["mean"]["value"] is not None}
    name = max(tiers, key=lambda each: tiers[each]["mean"]["value"], default=None)
    return None if name is None else (name, tiers[name])


def _undecided(measured: Mapping[str, Any], verdict: str, what: str) -> str:
    """How often faces with a known answer get neither real nor fake."""
    outcomes = (measured.get("test") or {}).get("outcomes") or {}
    counts = [label.values() for label in outcomes.values()]
    figure = metrics.wilson(sum(label[verdict] for label in outcomes.values()), sum(map(sum, counts))).to_dict()
    return "" if figure["value"] is None else f"Of 100 faces of kinds it was trained on, {of_hundred(figure, what)}."


def _tested(measured: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """A figure of the test pictures by evaluation tier, where it was measured."""
    sets = {name: measured.get("test" if name == "clean" else f"test_{name}") or {} for name in TIERS}
    return {name: found[key] for name, found in sets.items() if (found.get(key) or {}).get("value") is not None}


_DEGRADED = {"clean": "", "web": ", as the web delivers them", "hard": ", badly degraded"}  # by evaluation tier


def of_hundred(figure: Mapping[str, Any], what: str) -> str:
    """A share as so many of 100, with its interval.

    >>> of_hundred({"value": 0.023, "low": 0.012, "high": 0.031}, "flagged")
    'about 2 are flagged (2.3 %, 95 % interval 1.2 to 3.1 %)'
    >>> of_hundred({"value": 0.004, "low": None, "high": None}, "flagged")
    'fewer than 1 is flagged (0.4 %)'
    """
    share = figure["value"] * 100
    number = "fewer than 1 is" if share < 0.5 else f"about {share:.0f} {'is' if share < 1.5 else 'are'}"
    low, high = figure.get("low"), figure.get("high")
    ends = "" if low is None or high is None else f", 95 % interval {low * 100:.1f} to {high * 100:.1f} %"
    return f"{number} {what} ({share:.1f} %{ends})"


def errs_less(compared: Mapping[str, Any]) -> tuple[str, str]:
    """Which of two runs errs less often, and what says so.

    Parameters
    ----------
    compared : dict
        Figures of `model.metrics.compare`.

    Returns
    -------
    tuple of str
        Plain text without Markdown. The first is empty where there is nothing to test.
    """
    test, clusters = compared["mcnemar"], compared["protocol"]["clusters"]
    if test["p_value"] is None:
        return "", f"McNemar's test: nothing to test, {reason(test)}."
    value = "< 0.0001" if test["p_value"] < 0.0001 else f"= {test['p_value']:.4f}"
    mcnemar = f"McNemar's test: p {value} ({test['method']})"
    if not clusters:
        clear, gain = test["p_value"] < 0.05, test["only_a"] - test["only_b"]
        why = f"{mcnemar}: " + (
            "runs that err equally often would rarely differ this much on the same pictures."
            if clear
            else "runs that err equally often may well differ this much by chance."
        )
    else:  # pictures of one person err together, which McNemar's test would count as many independent answers
        entry = compared["differences"]["accuracy"]
        gain, low, high = entry["value"], entry["low"], entry["high"]
        clear = low is not None and (low > 0 or high < 0)
        ends = reason(entry, "no interval") if low is None else f"95 % interval {signed(low, 4)} to {signed(high, 4)}"
        why = (
            f"Accuracy, A less B: {signed(gain, 4)}, {ends}, with the pictures of one '{clusters}' drawn together. "
            f"{mcnemar}, but it does not know of these clusters and takes every picture as independent."
        )
    better = "A" if gain > 0 else "B"
    return f"{better} errs less often." if clear else "No clear difference in the number of errors.", why


def reason(figure: Mapping[str, Any], otherwise: str = "not enough data") -> str:
    """Why a figure of `model.metrics`, or its interval, is not defined, in the words of the page.

    >>> reason({"value": None, "reason": "no fake images"})
    'no AI images'
    """
    return str(figure.get("reason") or otherwise).replace("fake", "AI")


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


def moment(seconds: float, zone: str | None) -> str:
    """A point in time where the reader is, else in UTC.

    Parameters
    ----------
    seconds : float
        Since 1970-01-01 UTC.
    zone : str or None
        As `st.context.timezone` tells it: the browser's word, which need not name a zone.

    Examples
    --------
    >>> moment(0, "Etc/GMT-2"), moment(0, None)
    ('1970-01-01 02:00', '1970-01-01 00:00 UTC')
    """
    try:
        return f"{datetime.fromtimestamp(seconds, ZoneInfo(zone or '')):%Y-%m-%d %H:%M}"
    except (KeyError, ValueError, OSError):  # no such zone, no path inside the database of zones, one of its folders
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


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

    Addresses and icons are made from text that is escaped, too; a joiner of no width keeps them apart.

    >>> plain("a_b*[x](y).png")
    'a\\_b\\*\\[x\\]\\(y\\).png'
    >>> plain("www.x.org")
    'www\u2060.x.org'
    """
    apart = _LINKED.sub("\\g<0>\N{WORD JOINER}", text)
    return "".join("\\" + character if character in "\\`*_{}[]()<>#+!|~$:" else character for character in apart)


_LINKED = re.compile(r":(?=[/+a-z])|@(?=\S)|www(?=\.)", re.IGNORECASE)

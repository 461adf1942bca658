"""Set the report on one picture as a PDF of one A4 page.

Fonts are the Bitstream Vera that reportlab carries, embedded; a character that they lack is written as its escape. All
text is escaped before it becomes markup, and pictures are handed over as bytes: nothing is fetched.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import reportlab
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Frame, Image, KeepInFrame, Paragraph, Spacer, Table

from dashboard import words
from dashboard.charts import LIGHT

if TYPE_CHECKING:
    from dashboard.report.image_report import ImageReport, LedgerLine

MARGIN = 13 * mm
WIDTH = A4[0] - 2 * MARGIN
PICTURE_HEIGHT = 52 * mm
_table = partial(Table, hAlign="LEFT")  # one left edge, also where the page is shrunk
_SANS, _BOLD, _MONO = "RealityCheckSans", "RealityCheckSans-Bold", "Courier"


def render(report: ImageReport, note: str, footer: str) -> bytes:
    """Write the page; what would not fit is scaled down until it does."""
    _fonts()
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    canvas.setTitle(f"{_plain(report.name)}: the detector's verdict is {report.verdict}")
    canvas.setAuthor("Reality Check")
    canvas.setSubject(report.title)
    frame = Frame(MARGIN, MARGIN, WIDTH, A4[1] - 2 * MARGIN, 0, 0, 0, 0)
    height = A4[1] - 2 * MARGIN - 1
    frame.addFromList([KeepInFrame(WIDTH, height, _page(report, note, footer), mode="shrink")], canvas)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


@cache
def _fonts() -> frozenset[int]:
    """Register the fonts; returns the characters that they have."""
    folder = Path(reportlab.__file__).parent / "fonts"
    for name, file in ((_SANS, "Vera.ttf"), (_BOLD, "VeraBd.ttf")):
        pdfmetrics.registerFont(TTFont(name, folder / file))
    pdfmetrics.registerFontFamily(_SANS, normal=_SANS, bold=_BOLD, italic=_SANS, boldItalic=_BOLD)
    return frozenset(pdfmetrics.getFont(_SANS).face.charToGlyph)


def _style(size: float, colour: str = LIGHT.ink, **options: Any) -> ParagraphStyle:
    options = {"fontName": _SANS, "leading": size * 1.32, "splitLongWords": 1} | options
    return ParagraphStyle("", fontSize=size, textColor=HexColor(colour), **options)


def _plain(text: str) -> str:
    return "".join(character if ord(character) in _fonts() else ascii(character)[1:-1] for character in text)


def _text(text: str, style: ParagraphStyle, lead: str = "") -> Paragraph:
    bold = f"<b>{escape(_plain(lead))}</b> " if lead else ""
    return Paragraph(bold + escape(_plain(text)), style)


def _page(report: ImageReport, note: str, footer: str) -> list[Flowable]:
    body, muted = _style(7.4), _style(6.6, LIGHT.muted)
    page: list[Flowable] = [
        _row(
            [
                _text(f"Reality Check: {report.title.lower()}", _style(7.4, LIGHT.muted)),
                _text(report.name, _style(7.4, LIGHT.muted, alignment=1)),
                _text(report.created, _style(7.4, LIGHT.muted, alignment=2)),
            ],
            [0.3, 0.45, 0.25],
            [("LINEBELOW", (0, 0), (-1, -1), 0.5, HexColor("#b9c4cc")), ("BOTTOMPADDING", (0, 0), (-1, -1), 3)],
        ),
        Spacer(0, 3 * mm),
        _verdict(report, body, muted),
        Spacer(0, 3 * mm),
    ]
    if report.picture is not None:
        page += [_pictures(report, muted), Spacer(0, 1 * mm)]
    if report.scale:
        page += [_text(report.scale, muted), Spacer(0, 1.5 * mm)]
    left: list[Flowable] = []
    if report.ledger:
        left += [_heading("What moved the score, part by part"), _ledger(report), Spacer(0, 1 * mm)]
        left.append(_text(report.ledger_sum, body))
    left.append(_heading("What this cannot say"))
    item = _style(7.4, leftIndent=8, bulletFontSize=6, spaceAfter=1)
    left += [Paragraph(escape(_plain(line)), item, bulletText="•") for line in report.cannot_say]
    right = _stability(report, body)
    if report.remarks:
        right.append(_heading("How good this account is"))
    right += [_text(remark, _style(7.4, spaceAfter=2)) for remark in report.remarks]
    columns = [0.53, 0.04, 0.43] if right else [1, 0, 0]
    page += [
        _row([left, "", right], columns),
        Spacer(0, 1.5 * mm),
        _heading("What was examined, and with what"),
        _facts(report),
    ]
    if report.digest is not None:
        page += [Spacer(0, 2 * mm), _digest(report.digest, note, muted)]
    page += [Spacer(0, 2.5 * mm), _text(footer, body)]
    return page


def _row(
    cells: Sequence[Any], shares: Sequence[float], style: Sequence[tuple[Any, ...]] = (), width: float = 0
) -> Table:
    """Cells side by side at the top, without padding; `shares` of the width."""
    kept = [(cell, share) for cell, share in zip(cells, shares, strict=True) if share]
    widths = [share * (width or WIDTH) for _, share in kept]
    flat = [("VALIGN", (0, 0), (-1, -1), "TOP"), *_PADDING, *style]
    return _table([[cell for cell, _ in kept]], colWidths=widths, style=flat)


_PADDING = [(f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]


def _heading(text: str) -> Paragraph:
    return Paragraph(f"<b>{escape(text)}</b>", _style(8.4, spaceBefore=7, spaceAfter=2.5))


def _verdict(report: ImageReport, body: ParagraphStyle, muted: ParagraphStyle) -> Table:
    probability = f"Probability of AI-generated: {report.probability}" if report.probability else ""
    title = _row(
        [
            _text("", _style(13, leading=17), f"The detector's verdict: {report.verdict}"),
            _text(probability, _style(9.4, leading=19)),
        ],
        [0.61, 0.39],
        width=WIDTH - 4 * mm,
    )
    lines = [
        title,
        Spacer(0, 1 * mm),
        _text(report.statement, _style(8.6)),
        Spacer(0, 1 * mm),
    ]
    if report.error_rate:
        lines += [_text(report.error_rate, body, f"{report.error_heading}."), Spacer(0, 0.6 * mm)]
    lines.append(_text(report.thresholds, muted))
    rule = [("LINEBEFORE", (0, 0), (0, -1), 4, HexColor(report.colour)), ("LEFTPADDING", (0, 0), (-1, -1), 4 * mm)]
    return _table([[lines]], colWidths=[WIDTH], style=[*_PADDING, *rule])


def _pictures(report: ImageReport, muted: ParagraphStyle) -> Table:
    picture = _image(report.picture, 70 * mm)
    cells: list[Any] = [[picture, _text(f"The picture, scaled. {report.faces}", muted)]]
    widths = [max(picture.drawWidth, 34 * mm)]
    if report.crop is not None and report.evidence is not None and report.legend is not None:
        crop, evidence = (_image(part, PICTURE_HEIGHT) for part in (report.crop, report.evidence))
        side = evidence.drawWidth
        words_at_ends = [_text("real", muted), _text("AI-generated", _style(6.6, LIGHT.muted, alignment=2))]
        ends = _row(words_at_ends, [0.5, 0.5], width=side)
        legend = Image(io.BytesIO(report.legend), side, 2 * mm, hAlign="LEFT")
        cells += ["", [crop, _text("What the detector looked at.", muted)], "", [evidence, legend, ends]]
        widths += [6 * mm, side, 6 * mm, side]
    return _table([cells], colWidths=widths, style=[("VALIGN", (0, 0), (-1, -1), "TOP"), *_PADDING])


def _image(picture: bytes | None, width: float) -> Image:
    """A picture as large as fits."""
    assert picture is not None
    image = Image(io.BytesIO(picture), hAlign="LEFT")
    scale = min(width / image.imageWidth, PICTURE_HEIGHT / image.imageHeight)
    image.drawWidth, image.drawHeight = image.imageWidth * scale, image.imageHeight * scale
    return image


class _Bar(Flowable):
    """A bar to the left or right of a line in the middle."""

    def __init__(self, line: LedgerLine, width: float) -> None:
        super().__init__()
        self.line, self.width, self.height = line, width, 2.3 * mm

    def wrap(self, *_: float) -> tuple[float, float]:
        """Size in points."""
        return self.width, self.height

    def draw(self) -> None:
        """Draw it on the canvas that the page gave it."""
        middle, length = self.width / 2, self.line.reach * self.width / 2
        away = self.line.log_odds < 0
        self.canv.setFillColor(HexColor(LIGHT.real if away else LIGHT.fake))
        self.canv.rect(middle - length if away else middle, 0, length, self.height, stroke=0, fill=1)
        self.canv.setStrokeColor(HexColor(LIGHT.neutral))
        self.canv.setLineWidth(0.5)
        self.canv.line(middle, -1.5, middle, self.height + 1.5)


def _ledger(report: ImageReport) -> Table:
    usual = ["9 in 10 real faces"] if report.usual else []
    small, number = _style(6.6, LIGHT.muted), _style(7.4, alignment=2)
    head = [
        _text("Part of the face", small),
        *(_text(text, _style(6.6, LIGHT.muted, alignment=2)) for text in ("Log-odds", *usual, "Area")),
        _text("real | AI", _style(6.6, LIGHT.muted, alignment=1)),
    ]
    rows: list[list[Any]] = [head]
    bar = (15 if usual else 33) * mm
    for line in report.ledger:
        area = "" if line.area is None else words.percent(line.area, 0)
        rows.append(
            [
                _text(line.region, _style(7.4)),
                _text(words.signed(line.log_odds), number),
                *(_text(line.usual, _style(6.6, LIGHT.muted, alignment=2)) for _ in usual),
                _text(area, number),
                _Bar(line, bar - 3 * mm),
            ]
        )
    rules = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(LIGHT.grid)),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.6),
        ("LEFTPADDING", (-1, 0), (-1, -1), 6),
    ]
    numbers = [13 * mm, *(22 * mm for _ in usual), 15 * mm]
    widths = [0.53 * WIDTH - bar - sum(numbers), *numbers, bar]
    return _table(rows, colWidths=widths, style=[*_PADDING, *rules])


def _stability(report: ImageReport, body: ParagraphStyle) -> list[Flowable]:
    if report.stability is None:
        return []
    found: list[Flowable] = [
        _heading("The same picture, passed on"),
        _text(report.stability.summary, body),
        Spacer(0, 1 * mm),
    ]
    rows = [
        [
            _text(name, body),
            _text("" if p_fake is None else words.percent(p_fake), _style(7.4, alignment=2)),
            _text(words.VERDICTS[verdict].short, _style(7.4, alignment=2)),
        ]
        for name, p_fake, verdict in report.stability.rows
    ]
    if rows:
        rules = [("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(LIGHT.grid)), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.2)]
        widths = [0.43 * WIDTH - 46 * mm, 20 * mm, 26 * mm]
        found.append(_table(rows, colWidths=widths, style=[*_PADDING, *rules]))
    return found


def _facts(report: ImageReport) -> Table:
    rows = [
        [
            _text(name, _style(7.4, LIGHT.muted)),
            _text(value, _style(7.4, fontName=_MONO) if name.startswith("SHA") else _style(7.4)),
        ]
        for name, value in report.facts
    ]
    rules = [("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(LIGHT.grid)), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.6)]
    return _table(rows, colWidths=[36 * mm, WIDTH - 36 * mm], style=[*_PADDING, *rules])


def _digest(digest: str, note: str, muted: ParagraphStyle) -> Table:
    line = Paragraph(f'<b>Packet digest</b> <font face="{_MONO}">{escape(digest)}</font>', _style(7.6))
    check = f"{note} Check it with: reality-check verify PACKET --digest …"
    frame: list[tuple[Any, ...]] = [("BOX", (0, 0), (-1, -1), 0.6, HexColor(LIGHT.neutral))]
    frame += [(f"{side}PADDING", (0, 0), (-1, -1), 4) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]
    return _table([[[line, Spacer(0, 1 * mm), _text(check, muted)]]], colWidths=[WIDTH], style=frame)

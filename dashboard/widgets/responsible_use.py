"""What a verdict is and is not, in short; `docs/responsible-use.md` is the long version."""

from __future__ import annotations

import streamlit as st

from dashboard import words
from model.calibration import FAKE, INCONCLUSIVE, REAL
from model.detector import Detector

_RULES = (
    (
        "A verdict is a measurement, not proof",
        "It says how much a face resembles faces that generators made, as far as this network learnt to tell. It says "
        "nothing about who made a picture, why, or whether what it shows happened. Never accuse, block or report "
        "anybody on it alone: look for the original file and its source, ask a second person, and hear the one "
        "concerned.",
    ),
    (
        "A face is personal data",
        "Examine pictures of people only for a purpose that the law and your organisation allow (in the EU: Articles 5 "
        "and 6 of the GDPR), keep them no longer than that needs, and delete them afterwards. Nobody is identified "
        "here, and faces are compared with no one.",
    ),
    (
        "Marks of origin come first",
        "A generator's own mark (in the EU due under Article 50 of the AI Act) or a signed history of a picture says "
        "more than a verdict. Its absence says nothing: marks are lost with every screenshot.",
    ),
    (
        "It may fail more often on some people and pictures",
        "Error rates by age, gender and skin tone are not known. It is weak on generators it never saw, on small or "
        "strongly compressed copies, on heavy make-up and filters; it does not look for swapped or retouched faces.",
    ),
)


def responsible_use(detector: Detector) -> None:
    """The rules, and how often the detector errs, verdict by verdict."""
    left, right = st.columns(2, gap="large")
    for number, (title, text) in enumerate(_RULES):
        with (left, right)[number % 2], st.container(border=True):
            st.markdown(f"**{title}**")
            st.markdown(text)
    st.subheader("How often it errs")
    for verdict in (FAKE, REAL, INCONCLUSIVE):
        rates = words.stated_error_rates(detector.checkpoint, verdict, detector.thresholds)
        st.markdown(f"- **{words.VERDICTS[verdict].title}.** {words.plain(rates)}")

"""The one threshold, its presets, and the costs and prevalence that figures are computed for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.measured import Measured
from dashboard.view import LEAST_PREVALENCE, View, possible
from dashboard.widgets.evaluation import state


def controls(job_id: str, measured: Measured, view: View, at: Mapping[str, Any]) -> None:
    """Slider, number and presets for one threshold, which keeps every digit however it was set."""
    threshold = measured.threshold(view)
    presets = measured.presets(dict(at))
    slider, number, pills = (f"{name}_{job_id}" for name in ("threshold", "threshold_number", "preset"))
    defined = {preset.name: preset.threshold for preset in presets if preset.threshold is not None}
    st.session_state[slider] = st.session_state[number] = threshold
    st.session_state[pills] = next((name for name, value in defined.items() if value == threshold), None)

    def moved(key: str) -> None:
        if st.session_state[key] is not None:
            state.change(job_id, threshold=float(st.session_state[key]))

    def chosen() -> None:
        if (name := st.session_state[pills]) is not None:
            state.change(job_id, threshold=None if name == presets[0].name else defined[name])

    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            st.slider(
                "Flag as AI-generated from this probability upward",
                0.0,
                1.0,
                step=0.0001,
                format="%.4f",
                key=slider,
                on_change=moved,
                args=(slider,),
                help="Moves every figure, chart and picture below that depends on it. The network is not run again.",
            )
            st.number_input(
                "Threshold",
                0.0,
                1.0,
                step=0.01,
                format="%.6f",
                key=number,
                on_change=moved,
                args=(number,),
                width=170,
            )
        st.pills(
            "Thresholds with a meaning",
            list(defined),
            key=pills,
            on_change=chosen,
            label_visibility="collapsed",
        )
        missing = [f"{preset.name}: {preset.reason}" for preset in presets if preset.threshold is None]
        if missing:
            st.caption("Undefined here: " + "; ".join(missing) + ".")
        _stakes(job_id, measured, view)


def _stakes(job_id: str, measured: Measured, view: View) -> None:
    """Costs of the two mistakes, and how common AI-generated pictures are where the detector will be used."""
    keys = {name: f"{name}_{job_id}" for name in ("cost_fp", "cost_fn", "prevalence")}
    st.session_state[keys["cost_fp"]] = float(view.cost_fp)
    st.session_state[keys["cost_fn"]] = float(view.cost_fn)
    st.session_state[keys["prevalence"]] = 100 * measured.prevalence(view)

    def changed(name: str) -> None:
        value = st.session_state[keys[name]]
        if value is None:
            return
        if name == "prevalence":
            state.change(job_id, prevalence=possible(value / 100))
            return
        other = view.cost_fn if name == "cost_fp" else view.cost_fp
        if value >= 0 and value + other > 0:
            state.change(job_id, **{name: float(value)})
        else:
            st.toast("The two costs cannot both be 0.", icon=":material/error:")

    def number(label: str, name: str, meaning: str, **options: Any) -> None:
        st.number_input(label, key=keys[name], on_change=changed, args=(name,), help=meaning, width=190, **options)

    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        number("Cost of a false alarm", "cost_fp", "A real photograph that is flagged; any unit.", min_value=0.0)
        number("Cost of a miss", "cost_fn", "An AI-generated picture that passes; the same unit.", min_value=0.0)
        number(
            "AI-generated in use (%)",
            "prevalence",
            "How common they are where the detector will be used; at first, as common as in this set. Moves PPV, NPV "
            "and cost.",
            min_value=100 * LEAST_PREVALENCE,
            max_value=100 * (1 - LEAST_PREVALENCE),
            format="%.2f",
        )

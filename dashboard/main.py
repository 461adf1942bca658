"""The router: which pages there are, and nothing else."""

from contextlib import suppress
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import StopException

from dashboard import session
from dashboard.widgets import appearance, sign_in

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "pages"

# A local picture: with a Material icon as favicon every page view would fetch a font from another host.
st.set_page_config(page_title="Reality Check", page_icon=str(appearance.ICON), layout="wide")
st.logo(str(appearance.logo()), size="large")
session.initialise()
if not session.admit():
    sign_in.sign_in(session.providers())
    st.stop()

page = st.navigation(
    [
        st.Page(
            PAGES / "classify.py",
            title="Classify",
            icon=":material/person_search:",
            default=True,
            help="Check one picture: is the face a photograph or AI-generated, how sure is that, and why.",
        ),
        st.Page(
            PAGES / "bulk.py",
            title="Bulk",
            icon=":material/photo_library:",
            url_path="bulk",
            help="Check many pictures, a ZIP file or a server folder in the background; sort, filter and download.",
        ),
        st.Page(
            PAGES / "evaluate.py",
            title="Evaluate",
            icon=":material/monitoring:",
            url_path="evaluate",
            help="Measure the detector on pictures whose answer is known: error rates with intervals, curves, errors.",
        ),
        st.Page(
            PAGES / "explain.py",
            title="Explain",
            icon=":material/visibility:",
            url_path="explain",
            help="Which parts of a face moved the score, in which direction and by how much.",
        ),
        st.Page(
            PAGES / "models.py",
            title="Models",
            icon=":material/deployed_code:",
            url_path="models",
            help="The bundled checkpoints: measured figures, thresholds, training data and licence.",
        ),
        st.Page(
            PAGES / "about.py",
            title="About",
            icon=":material/info:",
            url_path="about",
            help="What a verdict is and is not, what is kept of you, and how to delete it.",
        ),
        *(
            [
                st.Page(
                    PAGES / "administration.py",
                    title="Administration",
                    icon=":material/admin_panel_settings:",
                    url_path="administration",
                    help="The state of the server, and the runs of all people.",
                )
            ]
            if session.person().administers
            else []
        ),
    ],
    position="top",
)
# A page that stops ends here like any other. Streamlit would keep the fragments of what stood there before, and a late
# answer from one of them, drawn where it once was, breaks the page in the browser.
with suppress(StopException):
    page.run()

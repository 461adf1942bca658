"""`python -m dashboard` is the command `reality-check`."""

from dashboard.cli import app

app(prog_name="python -m dashboard")

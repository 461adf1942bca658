"""The evaluation report: one HTML file that needs nothing else, prints well, and says what its figures do not show."""

from dashboard.report._render import rate, render

__all__ = ["rate", "render"]

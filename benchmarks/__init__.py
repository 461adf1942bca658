"""Speed beside the usual way of doing the same."""

"""The screen of Reality Check: pages, charts, jobs and the server around `model`."""

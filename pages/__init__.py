"""One thin script per page; `dashboard/main.py` lists them."""

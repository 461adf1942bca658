"""Small pieces of pages. A widget is handed what it shows; it opens no files and loads no network."""

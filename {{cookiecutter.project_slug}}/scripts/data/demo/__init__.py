"""The demo source: images of fruit that the project draws itself, with exact boxes."""

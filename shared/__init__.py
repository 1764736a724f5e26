"""What producers and workers both need; no model library, ever."""

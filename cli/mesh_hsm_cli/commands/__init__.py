"""One module per noun. Each is imported when its noun is named, and not before."""

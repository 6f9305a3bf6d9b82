"""agent world: import, export, check, diff."""

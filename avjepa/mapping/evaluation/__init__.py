"""How good a report of map changes is, against known changes."""

"""Maps in, map changes out: what drives say about a map. Depends on everything before it, not on reports."""

"""Tables, pictures and records of results. Depends on everything before it."""

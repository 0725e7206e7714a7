"""From files of a drive to batches of clips. Depends on geometry."""

"""Reports of map changes made without a learned representation, for comparison."""

"""Rigid transforms, cameras, the BEV grid and ego-motion. Depends on nothing else in avjepa."""

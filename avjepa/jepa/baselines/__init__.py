"""Other ways to pretrain the same encoder, temporal context and predictor, to be measured beside the JEPA by the same probes."""

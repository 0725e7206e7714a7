"""The mini city: a generated driving data set in nuScenes format, with exact ground truth."""

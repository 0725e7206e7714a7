"""Errors that a user can mend. Tools print them as one line and leave with exit code 2, without a traceback."""


class UserError(Exception):
    """Something outside the code is wrong; the message names the file or key and the mend."""


class DataError(UserError):
    """The data set, or too large a share of it, cannot be read."""


class BadFileError(DataError):
    """One file is missing, truncated or corrupt; readers count it and skip what depends on it."""


class ConfigError(UserError):
    """A configuration value or command line option is wrong."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or does not fit the model."""


class CollapseError(UserError):
    """The embedding collapsed while training; the message says which monitor tripped."""

"""Under which licence weights come that were trained on somebody's data."""

WEIGHTS = "MIT"
"""Of the weights that come with the app, like the code."""


def binds_weights(licence: str) -> bool:
    """Whether a licence of data is that of the weights too."""
    return licence.startswith("non-commercial")

"""Whose training data are, and under which licence weights come that were trained on them."""

FOLDER_KINDS = ("idx", "image_folder", "patches")
"""Kinds of data whose files the user has: they neither come with the package, nor may their pictures be passed on."""

WEIGHTS = "MIT"
"""Of the weights that come with the app, like the code."""


def binds_weights(licence: str) -> bool:
    """Whether a licence of data is that of the weights too."""
    return licence.startswith("non-commercial")

"""One page per file: controls, request, result, figures."""

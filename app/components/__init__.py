"""Controls and figures that live in the browser."""

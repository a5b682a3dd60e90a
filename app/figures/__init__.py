"""Arrays in, figure out: no streamlit, no torch."""

"""The Streamlit app: pages over dpi_core."""

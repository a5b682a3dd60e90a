"""What the pages ask for answers: stored results, the engine, uploads. No streamlit here, except in `cache`."""

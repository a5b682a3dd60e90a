# docker build -t dpi-explorer .                                                                for CPUs
# docker build -t dpi-explorer --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .   for CUDA
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1

WORKDIR /srv/dpi
# torch first and alone: its layer stays while the rest changes.
COPY requirements.txt .
RUN pip install --index-url "$TORCH_INDEX" "$(grep -m1 '^torch==' requirements.txt)"
COPY pyproject.toml README.md ./
COPY dpi_core dpi_core
COPY app app
RUN pip install -r requirements.txt
COPY .streamlit .streamlit
COPY checkpoints checkpoints

RUN useradd --system --home-dir /srv/dpi dpi
USER dpi
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/ready', timeout=4)"]
# Inside a container all addresses are the container's own; who may ask is the proxy's matter.
CMD ["streamlit", "run", "app/server.py", "--server.headless=true", "--server.address=0.0.0.0", "--server.port=8501"]

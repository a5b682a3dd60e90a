"""`python -m app.serve`: the engine's computations on as many machines as a Ray cluster has; see docs/serving.md.

Needs the extra `cluster`: `pip install -e ".[cluster]"`. The app that uses it needs no Ray.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

from app.services.cluster import PORT, SCHEME

MEMORY = 256 * 2**20
"""Bytes for messages between the processes of one machine; a message stays there for less than a second."""


def main() -> None:
    """Starts the replicas and serves until it is interrupted."""
    options = _options()
    chosen = options.parse_args()
    most = chosen.max_replicas or chosen.replicas
    if not 1 <= chosen.replicas <= most:
        options.error(f"{chosen.replicas} to {most} replicas cannot be; at least 1, and at most --max-replicas.")
    ray, serve = _ray()
    # Nothing leaves the machines: no statistics about the cluster.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _join(ray, chosen, most)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _serve(ray, serve, chosen, most)
        print(f"Ready: {SCHEME}://{chosen.host}:{chosen.port}, {chosen.replicas} to {most} replicas.", flush=True)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        serve.shutdown()
        ray.shutdown()


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.serve", description="Computes for DPI Explorer on a Ray cluster."
    )
    parser.add_argument("--replicas", type=int, default=1, help="processes that compute, each with models of its own")
    parser.add_argument("--max-replicas", type=int, help="as many when requests wait, --replicas when none do")
    parser.add_argument("--cpus", type=float, default=1, help="cores of a replica")
    parser.add_argument("--gpus", type=float, help="GPUs of a replica, 0.5 for two on one; 1 where the cluster has any")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; whoever reaches it may compute")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--address", help="of a Ray cluster to join, or auto; by default this machine becomes one")
    return parser


def _ray() -> tuple[Any, Any]:
    try:
        import ray
        from ray import serve
    except ImportError:
        sys.exit('Ray Serve is not installed: pip install -e ".[cluster]".')
    return ray, serve


def _join(ray: Any, chosen: argparse.Namespace, most: int) -> None:
    """Joins the cluster, or makes one of this machine."""
    if chosen.address:
        ray.init(address=chosen.address)
        return
    # A core or more for each replica even where there are fewer: then they take turns.
    cores = max(os.cpu_count() or 1, int(most * chosen.cpus))
    ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=MEMORY)


def _serve(ray: Any, serve: Any, chosen: argparse.Namespace, most: int) -> None:
    """Starts the replicas and waits until they answer."""
    from ray.serve.schema import LoggingConfig

    from app.services.replica import Replica

    gpus = float("GPU" in ray.cluster_resources()) if chosen.gpus is None else chosen.gpus
    # One request at a time each, for a device computes no faster with two; those that wait make the cluster grow.
    scale: dict[str, Any] = {"num_replicas": chosen.replicas}
    if most > chosen.replicas:
        bounds = {"min_replicas": chosen.replicas, "max_replicas": most}
        scale = {"autoscaling_config": {**bounds, "target_ongoing_requests": 1, "upscale_delay_s": 5}}
    deployment = serve.deployment(
        Replica,
        max_ongoing_requests=1,
        ray_actor_options={"num_cpus": chosen.cpus, "num_gpus": gpus},
        health_check_period_s=5,
        logging_config=LoggingConfig(enable_access_log=False),
        **scale,
    )
    serve.start(proxy_location="HeadOnly", http_options={"host": chosen.host, "port": chosen.port})
    serve.run(deployment.bind(most), name="dpi-explorer", route_prefix="/")


if __name__ == "__main__":
    main()

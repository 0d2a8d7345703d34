"""A second raylet on this machine, on loopback only: `python ray_node.py ADDRESS NODE FOLDER [LABELS RESOURCES]`; it lives until it is killed.

Labels and resources are JSON; left out: those of a node that runs jobs.

`ray start --address` refuses to join a head that is a machine of its own (docs/decisions/0006-ray-on-loopback.md); Ray's `Node`, which
`ray.cluster_utils` uses too, does not.
"""

import json
import signal
import sys


def main(address, node, folder, labels=None, resources="null"):
    import ray._private.node as ray_node
    from ray._private.parameter import RayParams

    name = node.replace("node_", "machine-")
    parameters = RayParams(
        gcs_address=address, redis_address=address, node_ip_address="127.0.0.1", num_cpus=0, num_gpus=0, object_store_memory=80 * 2**20,
        min_worker_port=0, max_worker_port=0, node_manager_port=0, dashboard_agent_listen_port=None, include_log_monitor=False,
        labels=json.loads(labels) if labels else {"gfe.io/role": "worker", "gfe.io/node": node, "gfe.io/name": name},
        resources=json.loads(resources), node_name=name, temp_dir=folder,
    )  # fmt: skip
    ray_node.Node(parameters, head=False, shutdown_at_exit=True, spawn_reaper=False)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])

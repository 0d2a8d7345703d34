"""What Ray's autoscaler is told of machines that it starts and ends, in KubeRay's place. Without Ray, which reads settings at its import."""

HEAD = "headgroup"  # as Ray's code for KubeRay calls it
AUTOSCALER = {
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD,
    "RAY_NODE_TYPE_NAME": HEAD,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
}


def groups_config(cluster, address, folder):
    """Read a RayCluster's groups as Ray's autoscaler does beside KubeRay; the machines are ours."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    machines = {"type": "external", "module": "tests.cluster.machines.Machines", "address": address, "folder": folder}
    config = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "gfe", "namespace": "gfe"}, "spec": cluster})
    return config | {"provider": config["provider"] | machines}

"""Machines that Ray's autoscaler starts and ends, in KubeRay's place: for each it asks for a second raylet on this machine (`ray_node.py`)."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import NODE_KIND_HEAD, STATUS_UP_TO_DATE, TAG_RAY_NODE_KIND, TAG_RAY_NODE_STATUS, TAG_RAY_USER_NODE_TYPE

from tests.cluster.autoscaled import HEAD
from tests.cluster.ray_head import RayHead


def own_settings(folder):
    """Name the file with what such a machine says for itself (`GFE_NODE_…`), as JSON; `folder` is Ray's."""
    return Path(folder).with_name("machines.json")


class Machines(NodeProvider):
    """One process per machine, by the name that the autoscaler knows it by."""

    def __init__(self, provider_config, cluster_name):
        super().__init__(provider_config, cluster_name)
        self.tags = {HEAD: {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: HEAD, TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}}
        self.processes = {}

    def non_terminated_nodes(self, tag_filters):
        return [one for one in self.tags if self.is_running(one) and tag_filters.items() <= self.tags[one].items()]

    def is_running(self, node_id):
        return node_id == HEAD or (node_id in self.processes and self.processes[node_id].poll() is None)

    def is_terminated(self, node_id):
        return not self.is_running(node_id)

    def node_tags(self, node_id):
        return self.tags[node_id]

    def external_ip(self, node_id):
        return "127.0.0.1"

    def internal_ip(self, node_id):
        return "127.0.0.1"

    def create_node_with_resources_and_labels(self, node_config, tags, count, resources, labels):
        for _ in range(count):
            machine = f"machine-{uuid.uuid4().hex[:8]}"
            kind = tags[TAG_RAY_USER_NODE_TYPE]
            own = {name: amount for name, amount in resources.items() if name not in {"CPU", "GPU"}}
            settings, where = self.provider_config, Path(__file__).with_name("ray_node.py")
            told = {"RAY_CLOUD_INSTANCE_ID": machine, "RAY_NODE_TYPE_NAME": kind} | json.loads(own_settings(settings["folder"]).read_text())
            with (Path(settings["folder"]).parent / f"{machine}.log").open("wb") as log:
                self.processes[machine] = subprocess.Popen(
                    [sys.executable, where, settings["address"], kind, settings["folder"], json.dumps(labels), json.dumps(own)],
                    env=os.environ | told, cwd="/", stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self.tags[machine] = tags | {TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}

    def terminate_node(self, node_id):
        RayHead.crash(self.processes[node_id])

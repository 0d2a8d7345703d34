#!/bin/sh
# Joins a machine that has Ray and this product installed already, without `gfe join`: the same labels and ports, no checks, no probe.
#
#   GFE_HEAD=10.0.0.1:6379 GFE_NODE=node_… GFE_NAME=attic GFE_TOKEN_FILE=/etc/gfe/ray_token sh ray-start.sh
#
# GFE_NODE comes from `gfe admin add-node`, the token from the head's secrets folder (mode 0400). Optional: GFE_ADDRESS (this machine's
# address there), GFE_RUNTIME_URL (an Ollama; default http://127.0.0.1:11434). It stays in the foreground; end it with SIGTERM.
set -eu
: "${GFE_HEAD:?host:port of the head}" "${GFE_NODE:?the id of this node}" "${GFE_TOKEN_FILE:?a file with the token of Ray}"
address="${GFE_ADDRESS:-$(python3 -c 'import socket, sys; h, _, p = sys.argv[1].rpartition(":"); print(socket.create_connection((h, int(p)), 3).getsockname()[0])' "$GFE_HEAD")}"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$GFE_TOKEN_FILE" RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 RAY_USAGE_STATS_ENABLED=0
export RAY_worker_niceness=0 RAY_gcs_rpc_server_reconnect_timeout_s=300
export GFE_NODE_RUNTIME_URL="${GFE_RUNTIME_URL:-http://127.0.0.1:11434}" GFE_NODE_HOST="$address" GFE_NODE_PORT=8082
unset PYTHONDONTWRITEBYTECODE || true
exec "${GFE_PYTHON:-python3}" -P -m ray.scripts.scripts start --address "$GFE_HEAD" --block --node-ip-address "$address" \
  --node-manager-port 8076 --object-manager-port 8077 --runtime-env-agent-port 8078 --dashboard-agent-listen-port 8079 \
  --dashboard-agent-grpc-port 8080 --metrics-export-port 8081 --min-worker-port 10002 --max-worker-port 10101 \
  --num-cpus 0 --num-gpus 0 --object-store-memory 200000000 --disable-usage-stats \
  --labels "gfe.io/node=$GFE_NODE,gfe.io/name=${GFE_NAME:-$GFE_NODE},gfe.io/role=worker"

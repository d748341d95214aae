#!/usr/bin/env bash
# Runs a config on this machine, on all of its devices:
#   launch/local.sh configs/quickstart.py --workdir runs/mine --config.total_epochs=20
# DEVICES=4 pretends that the CPU is four devices, to try out sharding without an accelerator.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  echo "usage: [DEVICES=n] launch/local.sh CONFIG [--workdir DIR] [--config.key=value ...]" >&2
  exit 2
fi
if [ -n "${DEVICES:-}" ]; then
  export JAX_PLATFORMS=cpu
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$DEVICES"
fi
config=$1
shift
exec "${PYTHON:-python3}" -m ssl_jax.main --config "$config" "$@"

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One machine with several GPUs: one process that has all of them, started again when it is cut off (as by local.py).
#
#   launch/gpu_node.sh [--dry-run] --config=configs/imagenet.py --workdir=runs/imagenet
#
# CUDA_VISIBLE_DEVICES=0,1 leaves the others free. PYTHON names another interpreter than that of .venv.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
dry_run=
if test "${1-}" = --dry-run; then
  shift
  dry_run=yes
fi
cd "$root"
# --num_processes=1: no looking for a cluster, should this be inside one.
command=("${PYTHON:-$root/.venv/bin/python}" launch/local.py --processes=1 -- "$@" --num_processes=1)
if test "$dry_run"; then
  printf '%q ' "${command[@]}"
  echo
else
  exec "${command[@]}"
fi

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What tpu_vm.py does on each machine: tpu_worker.sh setup | run ARGUMENTS | stop | status | logs LINES | progress WORKDIR
#
# The run does not hang on the connection: `run` starts it in the background and shows its log; the same command shows
# one that is running already, and ends with its exit code.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
state=$root/.worker
mkdir -p "$state"
cd "$root"

alive() {
  test -s "$state/pid" && kill -0 "$(cat "$state/pid")" 2>/dev/null
}

# The images of TPU machines come with Python 3.10; Ubuntu has 3.11 beside it.
find_python() {
  local python
  for python in python3.13 python3.12 python3.11; do
    if "$python" -c 'import ensurepip' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  sudo apt-get -o DPkg::Lock::Timeout=600 update -qq >&2
  sudo apt-get -o DPkg::Lock::Timeout=600 install -y -qq python3.11 python3.11-venv >&2
  echo python3.11
}

setup() {
  local wanted
  wanted=$(sha256sum requirements.txt)
  if test "$wanted" = "$(cat "$state/installed" 2>/dev/null)"; then
    return
  fi
  "$(find_python)" -m venv .venv
  .venv/bin/python -m pip install --quiet -r requirements.txt
  .venv/bin/python -m pip install --quiet -c requirements.txt 'jax[tpu]'
  echo "$wanted" >"$state/installed"
}

# A line with time and number before what this attempt prints; what earlier ones printed stays above it.
begin_log() {
  local attempt
  attempt=$(($(cat "$state/attempts" 2>/dev/null || echo 0) + 1))
  echo "$attempt" >"$state/attempts"
  if test -n "$(tail -c 1 "$state/log" 2>/dev/null)"; then # cut off within a line
    echo >>"$state/log"
  fi
  echo "== attempt $attempt, $(date -Iseconds): $*" >>"$state/log"
  wc -l <"$state/log" >"$state/begins"
}

run() {
  if ! alive; then
    rm -f "$state/code" "$state/told"
    begin_log "$@"
    # shellcheck disable=SC2016  # for the inner shell
    setsid bash -c 'cd "$1"; state=$2; shift 2; "$@" >>"$state/log" 2>&1; echo $? >"$state/code"' worker \
      "$root" "$state" .venv/bin/python -u -m perceiver_jax.main "$@" </dev/null >/dev/null 2>&1 &
    echo $! >"$state/pid"
  fi
  tail -n "+$(cat "$state/begins")" -f --pid="$(cat "$state/pid")" "$state/log"
  exit "$(cat "$state/code" 2>/dev/null || echo 75)"
}

# Once: a second signal would end the run at once, without saving.
stop() {
  if alive && ! test -e "$state/told" && pkill -TERM -P "$(cat "$state/pid")"; then
    touch "$state/told"
  fi
}

status() {
  if alive; then
    echo "running: $(tail -n 1 "$state/log")"
  else
    echo "not running; ended with $(cat "$state/code" 2>/dev/null || echo nothing)"
  fi
}

logs() {
  tail -n "$1" "$state/log"
}

progress() {
  tail -n 1 "$1/checkpoints/committed.jsonl" 2>/dev/null || true
}

action=$1
shift
case $action in
  setup | run | stop | status | logs | progress) "$action" "$@" ;;
  *)
    echo "tpu_worker.sh: expected setup, run, stop, status, logs or progress, got $action" >&2
    exit 78
    ;;
esac

#!/usr/bin/env bash
# Runs all tests, those that share the one swarm beside the others: they wait for each other, and would keep the rest of the
# threads waiting with them. Their output comes last.
#
# usage: scripts/tests.sh [ARGUMENT OF THE TEST PROGRAMS...]
set -euo pipefail

cd "$(dirname "$0")/.."

in_swarm=(swarm:: remote_engine::)

log=$(mktemp)
# A process group of its own, so that all of it can be ended.
set -m
RUST_TEST_THREADS=1 cargo test --locked --test all -- "${in_swarm[@]}" "$@" >"$log" 2>&1 &
beside=$!
trap 'kill -- "-$beside" 2>/dev/null || true; rm -f "$log"' EXIT

others() {
  cargo test --locked --lib --bins -- "$@" &&
    cargo test --locked --doc -- "$@" &&
    cargo test --locked --test all -- "${in_swarm[@]/#/--skip=}" "$@"
}
result=0
others "$@" || result=$?
wait "$beside" || result=$?
cat "$log"
exit "$result"

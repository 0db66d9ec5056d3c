#!/usr/bin/env bash
# Runs all tests. Those that share one swarm, or one server of a kind, wait for each other: they run beside the rest, or
# they would keep its threads waiting with them. Their output comes last.
#
# usage: scripts/tests.sh [ARGUMENT OF THE TEST PROGRAMS...]
set -euo pipefail

cd "$(dirname "$0")/.."

# The program that is shipped (make image). Its own variables begin with COFFERDAM, and unknown ones are warned of.
export TESTED_COFFERDAM=$PWD/dist/cofferdam

in_swarm=(swarm:: remote_engine::)
on_mysql=(mysql_)

logs=$(mktemp -d)
besides=()
trap 'for group in "${besides[@]}"; do kill -- "-$group" 2>/dev/null || true; done; rm -rf "$logs"' EXIT
# A process group for each, so that all of it can be ended.
set -m

# beside THREADS FILTER... -- ARGUMENT...
beside() {
  local threads=$1 filters=()
  shift
  while [[ $1 != -- ]]; do
    filters+=("$1")
    shift
  done
  RUST_TEST_THREADS=$threads cargo test --locked --test all -- "${filters[@]}" "${@:2}" \
    >"$logs/${filters[0]%%:*}" 2>&1 &
  besides+=("$!")
}

result=0
# These keep all cores busy, and the time limits of the others count on some of one.
cargo test --locked --lib --bins -- "$@" || result=$?
cargo test --locked --doc -- "$@" || result=$?

beside 1 "${in_swarm[@]}" -- "$@"
# MySQL and MariaDB.
beside 2 "${on_mysql[@]}" -- "$@"
cargo test --locked --test all -- "${in_swarm[@]/#/--skip=}" "${on_mysql[@]/#/--skip=}" "$@" || result=$?
for group in "${besides[@]}"; do
  wait "$group" || result=$?
done
cat "$logs"/*
exit "$result"

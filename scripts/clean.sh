#!/usr/bin/env bash
# Removes what tests and examples may have left in the engine, found by label, and the test images.
set -euo pipefail

# An option that is mistyped, or --help, must not remove anything.
[[ $# -eq 0 ]] || {
  echo "usage: scripts/clean.sh" >&2
  exit 2
}

# remove COMMAND... : the ids on stdin are its last arguments; nothing to do without any.
remove() { xargs --no-run-if-empty "$@" >/dev/null; }

docker ps --all --quiet --filter label=cofferdam.test | remove docker rm --force --volumes
docker volume ls --quiet --filter label=cofferdam.test | remove docker volume rm --force
# What cofferdam keeps in mind of the tests' projects.
docker volume ls --filter label=cofferdam.repository --format '{{.Label "cofferdam.repository.project"}} {{.Name}}' |
  sed -n 's/^cofferdam-test-[^ ]* //p' | remove docker volume rm --force
docker network ls --quiet --filter label=cofferdam.test | remove docker network rm
{
  docker images --all --quiet --filter label=cofferdam.test.image
  docker images --quiet cofferdam-agent
} | sort -u | remove docker rmi --force

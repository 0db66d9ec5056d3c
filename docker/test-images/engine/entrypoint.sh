#!/bin/sh
# Starts the engine with the arguments that are given, beside its usual socket.
set -eu

# A container that was killed leaves these, and a new engine would take them for those of one that runs.
rm -f /var/run/docker.pid /run/docker/containerd/containerd.pid

exec dockerd --host unix:///var/run/docker.sock "$@"

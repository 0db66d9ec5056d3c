#!/usr/bin/env bash
# Installs what building, testing, measuring and the demo need, on a Debian-like machine
# that has Docker and Rust. Says nothing when there is nothing to do.
set -euo pipefail

PATH=$PATH:/usr/sbin

fail() {
  echo "setup: $*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

have docker || fail "no docker client here: install Docker (https://docs.docker.com/engine/install/)"
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
  fail "the Docker Engine does not answer: start it, and see that $(id -un) may use it (docker version)"
have cargo || fail "no cargo here: install Rust (https://rustup.rs)"
for component in rustfmt clippy; do
  have "cargo-${component#rust}" || rustup component add "$component" ||
    fail "cargo has no $component: install the Rust component of that name"
done

packages=()
need() { have "$1" || packages+=("$2"); }

need cc gcc
[[ -e /usr/include/stdlib.h ]] || packages+=(libc6-dev)
# For Garage, which would compile it and run its tests.
[[ -e /usr/include/sodium.h ]] || packages+=(libsodium-dev)
need make make
need debootstrap debootstrap
need zstd zstd
need /usr/bin/time time
need jq jq
need curl curl
need setfacl acl
need setfattr attr
need shellcheck shellcheck
need rclone rclone
need chromium chromium
docker compose version >/dev/null 2>&1 || need docker-compose docker-compose

[[ ${#packages[@]} -gt 0 ]] || exit 0

have apt-get || fail "missing here, and this is no Debian-like system; install by hand: ${packages[*]}"
[[ $EUID -eq 0 ]] || fail "missing here; as root: apt-get install ${packages[*]}"

echo "setup: installing ${packages[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$({ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } 2>&1) ||
  fail "apt-get failed:"$'\n'"$log"

#!/usr/bin/env bash
# Makes sure that debian:SUITE-slim is in the engine, and prints its name.
# Pulls it where a registry answers, bootstraps it from Debian's packages where none does.
#
# usage: scripts/base-image.sh [SUITE]      bookworm (default), bullseye, trixie, sid
set -euo pipefail

suite=${1:-bookworm}
image=debian:$suite-slim
pull_seconds=${COFFERDAM_PULL_SECONDS:-60}

fail() {
  echo "base-image: $*" >&2
  exit 1
}

[[ $suite =~ ^[a-z]+$ ]] || fail "not a Debian suite: $suite"

present() { docker image inspect "$image" >/dev/null 2>&1; }
pull() { timeout "$pull_seconds" docker pull -q "$image" >/dev/null 2>&1; }

bootstrap() {
  command -v debootstrap >/dev/null || fail "no registry answered, and debootstrap is not installed: run scripts/setup.sh"
  [[ $EUID -eq 0 ]] || fail "no registry answered, and bootstrapping $image needs root"

  local root
  root=$(mktemp -d /var/tmp/cofferdam-base.XXXXXX)
  # shellcheck disable=SC2064 # the path is known now
  trap "rm -rf --one-file-system '$root'" EXIT

  echo "base-image: no registry answered; bootstrapping $image (half a minute)" >&2
  debootstrap --variant=minbase "$suite" "$root/rootfs" >"$root/log" 2>&1 ||
    { tail -n 20 "$root/log" >&2; fail "debootstrap of $suite failed"; }
  slim_down "$root/rootfs"
  tar -C "$root/rootfs" --numeric-owner -c . |
    docker import --change 'CMD ["bash"]' --message "debootstrap $suite" - "$image" >/dev/null
}

# What the official slim images leave out too: documentation, package lists and caches, waiting for the disk after each file
# of a package, and services that start while packages are being installed. A mirror may be a snapshot
# of an earlier day, whose lists have run out.
slim_down() {
  local rootfs=$1
  cat >"$rootfs/etc/dpkg/dpkg.cfg.d/slim" <<-'CONF'
	path-exclude /usr/share/doc/*
	path-include /usr/share/doc/*/copyright
	path-exclude /usr/share/man/*
	path-exclude /usr/share/info/*
	path-exclude /usr/share/locale/*
	force-unsafe-io
	CONF
  cat >"$rootfs/etc/apt/apt.conf.d/slim" <<-'CONF'
	APT::Install-Recommends "false";
	Acquire::Languages "none";
	Acquire::Check-Valid-Until "false";
	DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
	CONF
  printf '#!/bin/sh\nexit 101\n' >"$rootfs/usr/sbin/policy-rc.d"
  chmod 755 "$rootfs/usr/sbin/policy-rc.d"
  rm -rf "$rootfs"/var/cache/apt/* "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/log/*.log \
    "$rootfs"/usr/share/{man,info,locale}/*
  find "$rootfs/usr/share/doc" -mindepth 1 -not -type d -not -name copyright -delete
}

present || pull || bootstrap
echo "$image"

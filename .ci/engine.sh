#!/usr/bin/env bash
# Sees to a Docker Engine on a machine of continuous integration: installs and starts one where none answers. Where it keeps
# layers with FUSE, as on these machines, it gets the kernel's overlayfs, which made tests of PostgreSQL an eighth faster, and no
# seccomp filter, without which an exec takes 0.18 s instead of 0.31. Images made before are out of sight afterwards.
set -euo pipefail

config=/etc/docker/daemon.json
no_filter=/etc/docker/no-filter.json
log=/var/log/dockerd.ci.log

fail() {
  echo "engine: $*" >&2
  exit 1
}

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
runs() { pgrep -x dockerd >/dev/null; }

# eventually COMMAND...: whether it succeeds within a minute.
eventually() {
  for _ in {1..120}; do
    "$@" && return
    sleep 0.5
  done
  return 1
}

install() {
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends docker.io iptables; } >&2 ||
    fail "docker.io cannot be installed"
}

ended() { ! runs; }

# restart: whether an engine answers afterwards.
restart() {
  pkill -x dockerd || true
  eventually ended || return
  rm -f /run/docker.pid
  setsid dockerd >"$log" 2>&1 </dev/null &
  eventually answers
}

# One that has been started a moment ago may not answer yet.
if ! answers && ! { runs && eventually answers; }; then
  [[ $EUID -eq 0 ]] || fail "none answers, and only root could start one"
  command -v dockerd >/dev/null || install
  restart || fail "it does not start: $(tail -n 5 "$log")"
fi

[[ $(docker info --format '{{.Driver}}') == fuse-overlayfs && $EUID -eq 0 && -w $config ]] || exit 0
grep -q overlay /proc/filesystems || exit 0

before=$(<"$config")
echo '{"defaultAction": "SCMP_ACT_ALLOW"}' >"$no_filter"
sed -i "s|\"fuse-overlayfs\"|\"overlay2\", \"seccomp-profile\": \"$no_filter\"|" "$config"
if ! restart; then
  echo "engine: dockerd does not start with overlay2; going on with the old configuration: $(tail -n 5 "$log")" >&2
  printf '%s\n' "$before" >"$config"
  restart
fi

#!/usr/bin/env bash
# Makes what the stack mounts from the host: CanDIG's tmp/secrets and tmp/logging.
# Keeps what is there already.
set -euo pipefail

cd "$(dirname "$0")"
tmp=${CANDIG_TMP:-./tmp}

mkdir -p "$tmp"
# Nobody else enters this directory; in the containers, each service's own user reads its secret.
install -d -m 0700 "$tmp/secrets"
# The services write their logs as users of their own.
[[ -d $tmp/logging ]] || install -d -m 1777 "$tmp/logging"

for secret in postgres-db-secret redis-secret-key cofferdam-token; do
  secret=$tmp/secrets/$secret
  if [[ ! -s $secret ]]; then
    head -c 24 /dev/urandom | base64 | tr -d '\n' >"$secret"
    chmod 0644 "$secret"
  fi
done

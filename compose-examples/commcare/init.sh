#!/usr/bin/env bash
# Makes the password of the database, which the stack mounts from the host. Keeps what is there already.
set -euo pipefail

cd "$(dirname "$0")"
tmp=${COMMCARE_TMP:-./tmp}

# Nobody else enters this directory; in the containers, each service's own user reads its secret.
mkdir -p "$tmp"
install -d -m 0700 "$tmp/secrets"
secret=$tmp/secrets/db-password
if [[ ! -s $secret ]]; then
  head -c 24 /dev/urandom | base64 | tr -d '\n' >"$secret"
  chmod 0644 "$secret"
fi

#!/usr/bin/env bash
# Makes the passwords of the database, which the containers mount from the host. Keeps what is there already.
set -euo pipefail

cd "$(dirname "$0")"
tmp=${APIARY_TMP:-./tmp}

# Nobody else enters this directory; in the containers, each service's own user reads its secret.
mkdir -p "$tmp"
install -d -m 0700 "$tmp/secrets"
for name in root-password db-password; do
  secret=$tmp/secrets/$name
  if [[ ! -s $secret ]]; then
    head -c 24 /dev/urandom | base64 | tr -d '\n' >"$secret"
    chmod 0644 "$secret"
  fi
done

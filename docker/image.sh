#!/usr/bin/env bash
# Makes cofferdam:latest from dist/cofferdam (scripts/build.sh), and checks what it made:
# it runs on nothing but itself, and is small.
set -euo pipefail

cd "$(dirname "$0")/.."

image=cofferdam:latest
most_bytes=22000000

fail() {
  echo "image: $*" >&2
  exit 1
}

[[ -x dist/cofferdam ]] || fail "no dist/cofferdam: run scripts/build.sh (make build)"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null || true)
id_file=$(mktemp)
trap 'rm -f "$id_file"' EXIT
log=$(docker build -q --iidfile "$id_file" -f docker/Dockerfile.prebuilt \
  --label "org.opencontainers.image.version=$version" \
  --label "org.opencontainers.image.revision=$revision" \
  dist 2>&1) || fail "$image did not build:"$'\n'"$log"
id=$(<"$id_file")

docker run --rm --network none "$id" --version >/dev/null ||
  fail "the image does not run: is dist/cofferdam static?"

bytes=$(docker image inspect --format '{{.Size}}' "$id")
((bytes <= most_bytes)) || fail "the image has $bytes bytes; at most $most_bytes are allowed"

docker tag "$id" "$image"
echo "image: $image, $((bytes / 1000000)).$((bytes / 100000 % 10)) MB" >&2

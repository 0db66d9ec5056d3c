#!/usr/bin/env bash
# Builds Garage, the S3 server of the tests, and prints where the program is. It takes some minutes, once.
set -euo pipefail

cd "$(dirname "$0")/.."

version=2.5.0
root=${CARGO_TARGET_DIR:-target}/tools
program=$root/garage-$version

if [[ ! -x $program ]]; then
  echo "garage: building Garage $version (some minutes, once)" >&2
  build=$root/build
  # What the tests need of it, and built for a quick build: only what works on every byte is optimised.
  fast=()
  for crate in blake2 block-buffer crc-fast digest md-5 sha1 sha2 zstd-sys; do
    fast+=(--config "profile.release.package.$crate.opt-level=3")
  done
  sodium=$(find /usr/lib -name libsodium.a -print -quit)
  log=$(SODIUM_LIB_DIR=${sodium%/*} CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
    cargo install garage --version "$version" --locked --quiet --no-default-features --features bundled-libs,sqlite \
    "${fast[@]}" \
    --root "$build" --target-dir "$build" --no-track 2>&1) || {
    echo "garage: it did not build:"$'\n'"$log" >&2
    exit 1
  }
  strip -o "$program" "$build/bin/garage"
  rm -rf "$build"
fi
echo "$program"

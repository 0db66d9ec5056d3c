#!/usr/bin/env bash
# Builds the release binary, static, and leaves it at dist/cofferdam.
# The only place that says how: the Makefile and docker/Dockerfile both come here.
set -euo pipefail

cd "$(dirname "$0")/.."

# .cargo/config.toml links the C library in.
target=$(rustc --print host-tuple)
flags=()
case $target in
  # Its linker is Rust's own: equal functions are one, and relocations are packed.
  x86_64-unknown-linux-gnu) flags=(-C 'link-arg=-Wl,--icf=all' -C 'link-arg=-Wl,-z,pack-relative-relocs') ;;
esac
cargo rustc --release --locked --target "$target" --bin cofferdam -- "${flags[@]}"
install -D -m 0755 "${CARGO_TARGET_DIR:-target}/$target/release/cofferdam" dist/cofferdam

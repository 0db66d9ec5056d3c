#!/usr/bin/env bash
# Builds the release binary, static, and leaves it at dist/cofferdam.
# The only place that says how: the Makefile and docker/Dockerfile both come here.
set -euo pipefail

cd "$(dirname "$0")/.."

# .cargo/config.toml links the C library in.
target=$(rustc --print host-tuple)
cargo build --release --locked --target "$target"
install -D -m 0755 "${CARGO_TARGET_DIR:-target}/$target/release/cofferdam" dist/cofferdam

.DEFAULT_GOAL := help
EXAMPLE ?= candig
# Most of what the tests do is waiting for servers.
export RUST_TEST_THREADS ?= 4
.PHONY: help setup build image test-images test-servers test-programs check test test-full bench demo clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## Install what is missing on a Debian-like machine with Docker and Rust
	scripts/setup.sh

build: setup ## Build the static release binary: dist/cofferdam
	scripts/build.sh

image: build ## Build cofferdam:latest from it
	docker/image.sh

test-images: setup ## Build the servers that tests and examples run
	scripts/test-images.sh

test-servers: test-images
	scripts/test-images.sh postgres:13 postgres:17

test-programs: setup
	cargo test --locked --no-run

check: setup ## Formatting and lints, of Rust and of shell
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	git grep -lE '^#!.*[/ ](ba)?sh$$' | xargs shellcheck

test: image test-servers test-programs ## All tests, against a real engine and real servers
	scripts/tests.sh

test-full: image test-servers test-programs ## The slow ones and the other versions of servers too
	scripts/test-images.sh postgres:18 mariadb:10.5 mariadb:11
	COFFERDAM_TEST_STEP=1 scripts/tests.sh --include-ignored

bench: image test-images ## Measure against the usual ways, side by side
	cargo bench --locked --target "$$(rustc --print host-tuple)" --bench side_by_side

demo: image test-images ## Back up, destroy and restore an example: EXAMPLE=candig, igny8, tethys, apiary or commcare
	compose-examples/$(EXAMPLE)/demo.sh

clean: ## Remove test containers, volumes, networks and images
	scripts/clean.sh

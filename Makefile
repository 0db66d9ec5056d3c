.DEFAULT_GOAL := help
EXAMPLE ?= candig
images_of_candig := postgres redis candig-katsu candig-htsget candig-vault
images_of_igny8 := postgres redis igny8-backend
images_of_tethys := postgres tethys-portal
images_of_apiary := mysql apiary
images_of_commcare := postgres couchdb-stand-in elasticsearch-stand-in redis commcare-hq
demo_images := $(or $(images_of_$(EXAMPLE)),$(error there is no example $(EXAMPLE)))
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
	scripts/test-images.sh postgres:17

test-programs: setup
	cargo test --locked --no-run

check: setup ## Formatting and lints, of Rust and of shell
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	git grep -lE '^#!.*[/ ](ba)?sh$$' | xargs shellcheck

test: image test-servers test-programs ## All tests, against a real engine and real servers
	scripts/tests.sh

test-full: image test-servers test-programs ## The slow ones and the other versions of servers too
	scripts/test-images.sh postgres:13 postgres:18 mariadb:10.5 mariadb:11
	KILL_STEP=1 scripts/tests.sh --include-ignored

bench: image test-images ## Measure against the usual ways, side by side
	cargo bench --locked --target "$$(rustc --print host-tuple)" --bench side_by_side

demo: image ## Back up, destroy and restore an example: EXAMPLE=candig, igny8, tethys, apiary or commcare
	scripts/test-images.sh $(demo_images)
	compose-examples/$(EXAMPLE)/demo.sh

clean: ## Remove test containers, volumes, networks and images
	scripts/clean.sh

# Every verb of a developer and of CI. `make` alone lists them. Each is one script or one cargo
# call; all honour CARGO_TARGET_DIR.

CARGO ?= cargo
export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-stop test sim kills package lab bench fmt lint

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing (as root), or say which command would
	@scripts/setup

demo: ## build, start a site and three agents in a scratch folder, distribute real packages
	@scripts/setup build
	@$(CARGO) build --release --locked --bin muster
	@scripts/demo

demo-stop: ## end what `make demo` started, and remove its folder
	@scripts/demo-stop

test: ## all that CI runs
	@scripts/test

SEEDS ?= 100000
NIGHTS ?= 5000
LOSSES ?= 20000
UPGRADES ?= 5000
OFFLINE ?= 500
RARE ?= 10

sim: ## run SEEDS=100000 simulated fleets through every fault, and thousands of upgrades, losses, nights and months without a site
	@$(CARGO) build --release --locked -p muster-sim
	@"$(CARGO_TARGET_DIR)/release/muster-sim" --rare $(RARE) --jobs "$$(nproc)" --seeds 0..$(SEEDS)
	@"$(CARGO_TARGET_DIR)/release/muster-sim" --rare $(RARE) --jobs "$$(nproc)" --world nightly --seeds 0..$(NIGHTS)
	@"$(CARGO_TARGET_DIR)/release/muster-sim" --rare $(RARE) --jobs "$$(nproc)" --world losses --seeds 0..$(LOSSES)
	@"$(CARGO_TARGET_DIR)/release/muster-sim" --rare $(RARE) --jobs "$$(nproc)" --world upgrades --seeds 0..$(UPGRADES)
	@"$(CARGO_TARGET_DIR)/release/muster-sim" --rare $(RARE) --jobs "$$(nproc)" --world offline --seeds 0..$(OFFLINE)

package: ## build the Debian and RPM packages into target/package, for glibc 2.28 and later
	@scripts/setup lab
	@binary=$$(scripts/portable) && folder="$(CARGO_TARGET_DIR)/package" && \
	scripts/check-package "$$(scripts/package "$$binary" "$$folder")" 2.28 && \
	scripts/check-rpm "$$(scripts/package-rpm "$$binary" "$$folder")" 2.28

KILLS ?= 5

kills: ## kill -9 at every visit of every durable point of real processes, KILLS=5 times over; some 120 deaths each time
	@scripts/setup
	@$(CARGO) nextest run -p muster --locked --profile ci --no-capture --stress-count $(KILLS) -E 'test(dies_at_any)'

lab: ## real machines in qemu: packages, an earlier release, restarts, power cuts; 50 cuts
	@scripts/setup lab
	@lab/run --binary "$$(scripts/portable)" packages rpm releases restarts misbehaving power:50 upgrades:12 snapshot
	@BINARY="$$(scripts/portable)" scripts/maintenance

bench: ## measure ingest, policy polls and memory, beside known peers
	@scripts/setup
	@scripts/bench

fmt: ## format the Rust sources
	@$(CARGO) fmt --all

lint: ## formatting, clippy, licences and bans, the rules of the house
	@scripts/lint

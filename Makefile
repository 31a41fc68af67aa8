# make help lists what there is.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What the targets take: make test PKG=./event, make bench ONLY=publish-batch.
PKG ?= ./...
ONLY ?=
FUZZTIME ?= 20s
export TIDINGS_IMAGE ?= tidings:local

BINARY := bin/linux/tidings
LINTER := bin/golangci-lint
MODULES := . $(patsubst %/go.mod,%,$(filter-out tools/go.mod,$(wildcard */go.mod test/*/go.mod)))

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Watch an event bus at work: crashes, repeats, and an audit of every event (no Docker)
	@echo "building the demo (up to a minute the first time)" >&2
	@go run ./cmd/tidings demo $(ARGS)

.PHONY: test
test: ## Run the tests, with the race detector where a C compiler is there (PKG=./event)
	@tools/run-tests $(PKG)

.PHONY: test-long
test-long: ## Run the tests in full sizes, and the compose file
	@TIDINGS_TEST_LONG=1 tools/run-tests $(PKG)
	@$(MAKE) test-compose

.PHONY: test-compose
test-compose: static ## Start docker-compose.yml and count what its services do
	@cd test/compose && go test -count=1 -timeout 15m -v ./...

.PHONY: fuzz
fuzz: ## Fuzz each decoder for FUZZTIME (20s)
	@tools/run-fuzz $(FUZZTIME) $(PKG)

.PHONY: lint
lint: $(LINTER) ## Check style, format, vet and module sums, in every module
	@code=0; for module in $(MODULES); do \
		echo "lint $$module"; \
		(cd $$module && go mod verify >/dev/null && go vet ./... && \
			"$(CURDIR)/$(LINTER)" run --config "$(CURDIR)/.golangci.yml" ./... && \
			"$(CURDIR)/$(LINTER)" fmt --config "$(CURDIR)/.golangci.yml" --diff ./...) || code=1; \
	done; exit $$code

# The linter is pinned in a module of its own, so that it is in no user's graph.
$(LINTER): tools/go.mod tools/go.sum
	@echo "building golangci-lint (a few minutes, once)"
	@go -C tools build -o "$(CURDIR)/$(LINTER)" github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: bench
bench: ## Measure beside the peers, on a real broker (ONLY=publish-batch,consume-10ms)
	@cd bench && go run . $(if $(ONLY),-only $(ONLY))

.PHONY: build
build: ## Build bin/tidings
	@go build -trimpath -o bin/tidings ./cmd/tidings

# A build from nothing takes minutes: not at the expense of a test's time.
.PHONY: static
static:
	@CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags '-s -w' -o $(BINARY) ./cmd/tidings

.PHONY: image
image: static ## Build the container image from a static binary
	@docker build -q -t $(TIDINGS_IMAGE) . >/dev/null

.PHONY: up
up: image ## Start Kafka, PostgreSQL and the demo's services in containers
	@docker compose version >/dev/null 2>&1 || { echo "make up: needs Docker with its compose plugin (docker compose version)" >&2; exit 1; }
	@docker compose up --detach
	@echo "Follow it:  docker compose logs --follow order billing shipping"
	@echo "Scale it:   docker compose up --detach --no-recreate --scale billing=3"
	@echo "End it:     make down"

.PHONY: down
down: ## Stop what "make up" started and remove its data
	@docker compose down --volumes --remove-orphans

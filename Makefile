# Cardea. `make` alone lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE := $(CURDIR)/.cache
BIN   := $(CACHE)/bin
export CGO_ENABLED := 0

STATICCHECK_VERSION := v0.8.2
GOFUMPT_VERSION     := v0.12.0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

FUZZTIME ?= 5s

.PHONY: help setup run build test test-long test-go real-input fuzz bench bench-gateway lint fmt licences clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what building and testing need (quick the second time)
	@.ci/setup

run: build ## build and serve the demo on the standard ports, with its home in .cardea/
	@exec bin/cardea serve --demo --home .cardea

build: ## build bin/cardea
	@go build -trimpath -ldflags '$(LDFLAGS)' -o bin/cardea ./cmd/cardea

test: setup lint build test-go fuzz ## everything that must pass before a change goes in

test-go: export CARDEA_BINARY := $(CURDIR)/bin/cardea
test-go: export CARDEA_TEST_REQUIRE_POSTGRES := 1
test-go: export CARDEA_TEST_REQUIRE_FOREIGN := 1
test-go: real-input
	@go test -timeout 20m $$(go list ./... | grep -v /internal/e2e)
	@go test -timeout 20m -p 1 ./internal/e2e/... # each of them fills the machine

real-input: # public documents for the tests and the benchmark, fetched once
	@scripts/real-input.sh $(CACHE)/real

fuzz: ## run each fuzz target for a moment (FUZZTIME=5s)
	@.ci/fuzz $(FUZZTIME)

test-long: export CARDEA_TEST_REQUIRE_POSTGRES := 1
test-long: export CARDEA_TEST_REQUIRE_FOREIGN := 1
test-long: setup real-input ## longer fuzzing, the race detector and the slow tests
	@CGO_ENABLED=1 go test -race -timeout 60m ./...
	@CARDEA_LONG=1 CARDEA_SOAK=60m go test -p 1 -timeout 150m ./internal/http1/... ./internal/e2e/...
	@.ci/fuzz 60s

bench: build real-input ## measure, print a table and keep it in bench/RESULTS.md
	@go test -run '^$$' -bench . -benchmem ./internal/...
	@CARDEA_BINARY=$(CURDIR)/bin/cardea go run ./bench

bench-gateway: build ## measure the gateway beside nginx, on two quiet cores (BENCH="-short": flags)
	@bench/gateway/setup
	@CARDEA_BINARY=$(CURDIR)/bin/cardea go run ./bench/gateway $(BENCH)

lint: $(BIN)/staticcheck-$(STATICCHECK_VERSION) $(BIN)/gofumpt-$(GOFUMPT_VERSION) ## formatting, vet and static checks
	@out=$$($(BIN)/gofumpt-$(GOFUMPT_VERSION) -l cmd internal bench docs openapi); \
	  if [ -n "$$out" ]; then echo "not formatted (make fmt):"; echo "$$out"; exit 1; fi
	@go vet ./...
	@$(BIN)/staticcheck-$(STATICCHECK_VERSION) ./...

fmt: $(BIN)/gofumpt-$(GOFUMPT_VERSION) ## format the code
	@$(BIN)/gofumpt-$(GOFUMPT_VERSION) -w cmd internal bench docs openapi

$(BIN)/staticcheck-$(STATICCHECK_VERSION):
	@mkdir -p $(BIN)
	@GOBIN=$(BIN) go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	@mv $(BIN)/staticcheck $@

$(BIN)/gofumpt-$(GOFUMPT_VERSION):
	@mkdir -p $(BIN)
	@GOBIN=$(BIN) go install mvdan.cc/gofumpt@$(GOFUMPT_VERSION)
	@mv $(BIN)/gofumpt $@

licences: ## write docs/licences.md from the modules in the binary
	@.ci/licences > docs/licences.md

clean: ## remove what was built (not .cardea/)
	@rm -rf bin .cache

# Lograft. Bare `make` lists the targets. Only Go is needed: every tool is a `go tool` of go.mod.
.DEFAULT_GOAL := help
.PHONY: help build check test demo ci-long poison sim-raft sim crash mutants mutants-slice mutants-raft mutants-broker faults faults-short integration-race fuzz bench bench-quick big soak profile bench-peers bench-raft bench-segment generate clean

BIN := bin
# Added to every `go test`, for example GOTEST_FLAGS=-json (the way .ci/run counts) or GOTEST_FLAGS=-short.
GOTEST_FLAGS ?=
# The race detector wants a C compiler on most systems; without one the tests run without it, and say so.
RACE ?= $(shell command -v $$(go env CC) >/dev/null 2>&1 && echo -race)
# Input of the demo; empty: a file that every Go installation has.
FILE ?=

# Slices of ci-long. Seeds start at a fresh random base each run, which every run prints first.
RAFT_SEEDS ?= 2000
SIM_SEEDS ?= 300
CRASH_RUNS ?= 2000
FUZZ_TIME ?= 60s
# ci-long runs one of so many mutants, beginning at a random one; make mutants runs all.
MUTANTS_EVERY ?= 5
LONG_TIMEOUT ?= 30m
BENCH_COUNT ?= 10

# make bench takes about 6 minutes as it is. BENCH_RUN names sections (a regular expression: throughput, reads, partitions, restart,
# leader-kill, overload), BENCH_OUT= writes to standard output only.
BENCH_RUN ?=
BENCH_ROUNDS ?= 5
BENCH_MB ?= 128
BENCH_SECONDS ?= 5
BENCH_PARTITIONS ?= 1000
BENCH_KILLS ?= 20
BENCH_LOG_MB ?= 1024
BENCH_OUT ?= docs/benchmarks.md
SOAK ?= 10m
PEERS_ROUNDS ?= 5
PEERS_MB ?= 96

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

build: ## build broker, produce and consume into bin/
	CGO_ENABLED=0 go build -trimpath -o $(BIN)/ ./cmd/...

check: ## the static part of test: gofmt, go vet, staticcheck, go mod tidy
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on:"; echo "$$files"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff

test: check ## everything a change must pass: check, then all tests (with the race detector where there is a C compiler)
	@if [ -z "$(RACE)" ]; then echo "no C compiler: tests run without the race detector"; fi
	go test $(GOTEST_FLAGS) $(RACE) -timeout 9m ./...

demo: build ## three brokers, one real file, one leader killed, all copies compared; FILE=... for your own file
	@CGO_ENABLED=0 go build -trimpath -o $(BIN)/demo ./integration/cmd/demo
	@$(BIN)/demo -bin $(BIN) -file '$(FILE)'

# The slices of ci-long are targets of their own, so that each can be run, and sized, alone.
ci-long: sim-raft sim crash mutants-slice faults-short integration-race ## all that takes too long for test, in slices sized by variables

sim-raft: ## raft simulator; SEEDS=n for n seeds, SEED=s to replay one
	go test $(GOTEST_FLAGS) ./raft/sim -run TestSim -count 1 -timeout $(LONG_TIMEOUT) $(if $(SEED),-seed $(SEED) -v,-seeds $(or $(SEEDS),$(RAFT_SEEDS)))

sim: ## whole brokers and clients in the simulator; SEEDS=n for n seeds, SEED=s to replay one, STEPS=file for its step log
	go test $(GOTEST_FLAGS) ./broker/sim -run 'TestSimSeeds$$' -count 1 -v -timeout $(LONG_TIMEOUT) $(if $(SEED),-seed $(SEED) $(if $(STEPS),-steps $(abspath $(STEPS))),-seeds $(or $(SEEDS),$(SIM_SEEDS)))

crash: ## the log on disk, crashed after every operation of random workloads; RUNS=n workloads
	go test $(GOTEST_FLAGS) ./segment -run 'TestCrash$$' -count 1 -timeout $(LONG_TIMEOUT) -workloads $(or $(RUNS),$(CRASH_RUNS))

poison: ## tests of memory that is lent, in a build that overwrites what is given back and stops at what is given back twice or written after
	go test $(GOTEST_FLAGS) -tags poison -count 1 -timeout $(LONG_TIMEOUT) ./internal/buffers ./api/codec ./record ./client/... ./segment ./broker/engine ./broker/partition ./broker/rpc
	go test $(GOTEST_FLAGS) -tags poison -count 1 -timeout $(LONG_TIMEOUT) -run 'Lent|TestThreeBrokers|TestGroup' ./broker

mutants: mutants-raft mutants-broker ## break each rule in a copy: the named bench must go red; ONLY=part of a name

mutants-slice: ## one of MUTANTS_EVERY mutants
	go run ./raft/mutants -every $(MUTANTS_EVERY)
	go run ./broker/mutants -every $(MUTANTS_EVERY)

mutants-raft: ## the rules of raft/
	go run ./raft/mutants $(if $(ONLY),-only $(ONLY))

mutants-broker: ## the part of mutants that needs whole brokers
	go run ./broker/mutants $(if $(ONLY),-only $(ONLY))

faults: ## real brokers under every fault, a table at the end; CASE=name for one, ATTACK=part of the name of one attack of a siege, KILLS=n for more leader kills, RECORDS=n for answers-dropped
	LOGRAFT_FAULTS=$(or $(CASE),all) LOGRAFT_ATTACK=$(ATTACK) LOGRAFT_KILLS=$(KILLS) LOGRAFT_RECORDS=$(RECORDS) go test $(GOTEST_FLAGS) ./integration -run 'TestFaults$$|TestMembers' -count 1 -v -timeout $(LONG_TIMEOUT)

faults-short: ## the shortest cases of faults
	LOGRAFT_FAULTS=short go test $(GOTEST_FLAGS) ./integration -run 'TestFaults$$|TestMembers' -count 1 -v -timeout $(LONG_TIMEOUT)

integration-race: ## real brokers, built with the race detector, under kills and pauses
	LOGRAFT_RACE=1 go test $(GOTEST_FLAGS) ./integration -count 1 -timeout $(LONG_TIMEOUT)

fuzz: ## every fuzz target for FUZZ_TIME; prints each input that failed, which belongs into the package's testdata/fuzz
	@grep -r --include='*_test.go' -o 'func Fuzz[A-Za-z0-9]*' . | sed 's|/[^/]*:func | |' | sort | { failed=0; while read -r pkg name; do \
		echo "go test $$pkg -fuzz $$name"; \
		go test "$$pkg" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x && continue; failed=1; \
		git -C "$$pkg" ls-files --others --exclude-standard "testdata/fuzz/$$name" | while read -r f; do echo "== $$pkg/$$f"; cat "$$pkg/$$f"; done; \
	done; exit $$failed; }

bench: build $(BIN)/bench ## our side of the table of performance.md, on three brokers; medians go to docs/benchmarks.md
	@$(BIN)/bench -bin $(BIN) -out '$(BENCH_OUT)' -run '$(BENCH_RUN)' -rounds $(BENCH_ROUNDS) -mb $(BENCH_MB) -time $(BENCH_SECONDS)s \
		-partitions $(BENCH_PARTITIONS) -kills $(BENCH_KILLS) -log-mb $(BENCH_LOG_MB)

bench-quick: build $(BIN)/bench ## that every section of bench works, in about a minute; its figures mean nothing
	@$(BIN)/bench -bin $(BIN) -rounds 1 -mb 8 -time 1s -partitions 50 -kills 1 -log-mb 16

big: ## trim a partition of GIB (default 10) GiB, catch up a lagging and a new replica while writes go on; takes 4 times the disk
	LOGRAFT_BIG_GIB=$(or $(GIB),10) go test $(GOTEST_FLAGS) ./integration -run 'TestBigTrim$$' -count 1 -v -timeout 40m

soak: build $(BIN)/bench ## 80 % load for SOAK, then compare memory; fails if it grew
	@$(BIN)/bench -bin $(BIN) -run '^soak$$' -time 10s -soak $(SOAK) -out '$(BENCH_OUT)'

profile: build $(BIN)/bench ## CPU, allocation, block, mutex and heap profiles of three loaded brokers, in profiles/
	@$(BIN)/bench -bin $(BIN) -run '^profile$$' -time 10s

.PHONY: $(BIN)/bench
$(BIN)/bench:
	@CGO_ENABLED=0 go build -trimpath -o $@ ./integration/cmd/bench

bench-peers: build ## beside NATS JetStream (built from its Go module), in one run on this machine; PEERS_ROUNDS, PEERS_MB
	@cd integration/peers && CGO_ENABLED=0 go build -trimpath -o ../../$(BIN)/peers . && CGO_ENABLED=0 go build -trimpath -o ../../$(BIN)/nats-server github.com/nats-io/nats-server/v2
	@$(BIN)/peers -bin $(BIN) -rounds $(PEERS_ROUNDS) -mb $(PEERS_MB)

bench-raft: ## raft/ beside go.etcd.io/raft/v3; BENCH_COUNT runs through benchstat
	go test ./raft/bench -run '^$$' -bench . -benchmem -count $(BENCH_COUNT) | go tool benchstat -col /lib -

bench-segment: ## the log on disk beside bare writes and reads, tidwall/wal and raft-wal; BENCH_COUNT runs through benchstat
	(cd segment/bench && go test -run '^$$' -bench . -count $(BENCH_COUNT)) | go tool benchstat -
	go test ./segment -run '^$$' -bench Open -benchtime 3x -count $(BENCH_COUNT) | go tool benchstat -

generate: ## generated code from the .proto files (needs protoc; the result is committed)
	./api/generate.sh

clean: ## remove what make built
	rm -rf $(BIN)

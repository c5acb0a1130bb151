# make            builds ./berth
# make demo       plays the whole story on a real runtime
# make test       installs what is missing, builds, runs all tests
# make crash powercut race model fuzz
#                 the long forms of the hard tests (docs/testing.md)
# make bench      measures against other programs (docs/benchmarks.md)
# make lint       gofmt, go vet, staticcheck
# make install    to $(DESTDIR)$(PREFIX)/bin

PREFIX   ?= /usr/local
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
RUNTIMES := build/runtimes
LEAST    := 75
COVERED  := berth/cmd/...,berth/config/...,berth/gc/...,berth/lock/...,berth/store/...

HARD     := crash powercut race model
FUZZTIME := 5m
FUZZ     := store:FuzzRef store:FuzzVersion config:FuzzConfig store/manifest:FuzzReader \
	store/archive:FuzzUnpack store/archive:FuzzTar store/archive/chunked:FuzzTable

.PHONY: build deps runtimes demo test unit hard $(HARD) fuzz bench lint install clean

build:
	CGO_ENABLED=0 go build -trimpath -tags urfave_cli_no_docs -ldflags '-s -w -X main.version=$(VERSION)' -o berth ./cmd/berth

deps:
	@test/deps.sh

runtimes: deps
	@test/runtime/build.sh $(RUNTIMES)

demo: runtimes build
	@test/demo.sh

test: unit hard
	@$(MAKE) --no-print-directory fuzz FUZZTIME=30s

# The command's own coverage comes from the processes that the tests start:
# they write to BERTH_COVERDIR when they end, also those of other accounts.
unit: runtimes build
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && chmod 777 "$$dir" && \
	BERTH_COVERDIR=$$dir go test -race -timeout 40m -p 2 -cover -coverpkg=$(COVERED) \
		$$(go list ./... | grep -vE '/test/($(subst $() ,|,$(HARD)))(/|$$)') -args -test.gocoverdir="$$dir" && \
	go tool covdata textfmt -i="$$dir" -o=build/coverage.out
	@go tool cover -func=build/coverage.out | awk '/^total:/ { sub("%", "", $$3); print "coverage of all packages: " $$3 " %"; \
		if ($$3 + 0 < $(LEAST)) { print "that is less than $(LEAST) %"; exit 1 } }'

# The short forms. From its own directory go test shows the figures of a test
# that passes.
hard: deps
	@for test in $(HARD); do (cd test/$$test && go test -count=1 -timeout 30m) || exit 1; done

$(HARD): deps
	cd test/$@ && go test -count=1 -timeout 6h -args -long

fuzz: deps
	@test/fuzz.sh $(FUZZTIME) $(FUZZ)

bench: build deps
	@test/runtime/build.sh --full build/full
	go run ./test/bench -runtimes build/full -work build/bench -docs docs

lint:
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "gofmt wants: $$files"; exit 1; }
	go vet ./...
	go tool staticcheck ./...

install: build
	install -D -m 0755 berth $(DESTDIR)$(PREFIX)/bin/berth

clean:
	rm -rf berth build

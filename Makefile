# make            builds ./berth
# make demo       plays the whole story on a real runtime
# make test       installs what is missing, builds, runs all tests
# make lint       gofmt, go vet, staticcheck
# make install    to $(DESTDIR)$(PREFIX)/bin

PREFIX   ?= /usr/local
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
RUNTIMES := build/runtimes
LEAST    := 75

.PHONY: build deps runtimes demo test lint install clean

build:
	CGO_ENABLED=0 go build -trimpath -tags urfave_cli_no_docs -ldflags '-s -w -X main.version=$(VERSION)' -o berth ./cmd/berth

deps:
	@test/deps.sh

runtimes: deps
	@test/runtime/build.sh $(RUNTIMES)

demo: runtimes build
	@test/demo.sh

# The command's own coverage comes from the processes that the tests start:
# they write to BERTH_COVERDIR when they end, also those of other accounts.
test: runtimes build
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && chmod 777 "$$dir" && \
	BERTH_COVERDIR=$$dir go test -race -timeout 40m -p 2 -cover -coverpkg=berth/... ./... -args -test.gocoverdir="$$dir" && \
	go tool covdata textfmt -i="$$dir" -o=build/coverage.out
	@go tool cover -func=build/coverage.out | awk '/^total:/ { sub("%", "", $$3); print "coverage of all packages: " $$3 " %"; \
		if ($$3 + 0 < $(LEAST)) { print "that is less than $(LEAST) %"; exit 1 } }'

lint:
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "gofmt wants: $$files"; exit 1; }
	go vet ./...
	go tool staticcheck ./...

install: build
	install -D -m 0755 berth $(DESTDIR)$(PREFIX)/bin/berth

clean:
	rm -rf berth build

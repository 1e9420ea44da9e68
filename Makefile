# Needs Node.js 20 or newer with npm, and make. The project's own Node.js 26 comes with its packages.
.DEFAULT_GOAL := help
INSTALLED := node_modules/.package-lock.json
NODE = $(or $(firstword $(wildcard node_modules/node-*/bin/node)),node)
export NODE_COMPILE_CACHE = $(CURDIR)/node_modules/.cache/koa-bosun

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## install the packages, Node.js 26 among them

$(INSTALLED): package.json package-lock.json
	npm ci --loglevel error
	@touch $@

.PHONY: run
run: $(INSTALLED) ## run the demo app: http://127.0.0.1:3000, admin http://127.0.0.1:9090 (Ctrl-C ends it)
	@exec $(NODE) src/main.ts

.PHONY: test
test: $(INSTALLED) ## run every test that this machine can run; REQUIRE_DOCKER=1 fails where there is no Docker engine
	@exec $(NODE) --test --test-concurrency=2 'test/**/*.test.ts'

.PHONY: check
check: $(INSTALLED) ## types, lint and format
	@$(NODE) node_modules/typescript/bin/tsc -p .
	@$(NODE) node_modules/@biomejs/biome/bin/biome check .

.PHONY: format
format: $(INSTALLED) ## put the sources into their format
	@$(NODE) node_modules/@biomejs/biome/bin/biome check --write .

.PHONY: docs
docs: $(INSTALLED) ## write the generated parts of the README
	@UPDATE_README=1 $(NODE) --test --test-reporter=dot test/readme.test.ts

.PHONY: image
image: ## build the image koa-bosun:0.1.0
	docker build -f docker/Dockerfile -t koa-bosun:0.1.0 --build-arg REVISION=$$(git rev-parse --short HEAD 2>/dev/null || echo unknown) --build-arg CREATED=$$(date -u +%FT%TZ) .

.PHONY: loadtest
loadtest: $(INSTALLED) ## load the running stack, or one that it starts: SCENARIO, DURATION, RATE, CONNECTIONS, URL, OUT, COMPARE; see the README
	@exec $(NODE) src/loadtest/main.ts

.PHONY: bench
bench: $(INSTALLED) ## measure start-up, CPU per request and sizing, against plain Koa and node:cluster, about 4 minutes
	@$(NODE) test/bench/startup.ts
	@$(NODE) test/bench/keepalive.ts
	@$(NODE) test/bench/resolve.ts

.PHONY: bench-rolling
bench-rolling: $(INSTALLED) ## 50 rolling restarts under mixed load for each policy, about 6 minutes; nothing may fail
	@$(NODE) test/bench/rolling.ts

# Needs Node.js 20 or newer with npm, and make. The project's own Node.js 26 comes with its packages.
.DEFAULT_GOAL := help
INSTALLED := node_modules/.package-lock.json
PACKAGE_DIR := .
PEERS := test/bench/peers/node_modules/.package-lock.json
SITE := docs/site/node_modules/.package-lock.json
IMAGE ?= koa-bosun:0.1.0
# Three files at a time on two CPUs: most tests wait for most of their time.
TEST_CONCURRENCY := 3
SOAKED := test/container/v2.test.ts test/container/rollout.test.ts $(addprefix test/process/,kills.test.ts metrics.test.ts accept-queue.test.ts restart-load.test.ts balancing.test.ts drain.test.ts drain-end.test.ts lost-requests.test.ts)
NODE = $(or $(firstword $(wildcard node_modules/node-*/bin/node)),node)
export NODE_COMPILE_CACHE = $(CURDIR)/node_modules/.cache/koa-bosun

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## install the packages, Node.js 26 among them

# Starts the kit once: the first `make run` then finds compiled code, as any later one. What fails here, `make run` shows.
$(INSTALLED): package.json package-lock.json test/package.json
	npm ci --loglevel error
	@touch $@
	@"$$(ls node_modules/node-*/bin/node 2>/dev/null || echo node)" docker/warm-up.mjs >/dev/null 2>&1 || true

.PHONY: run
run: $(INSTALLED) ## run the demo app: http://127.0.0.1:3000, admin http://127.0.0.1:9090 (Ctrl-C ends it)
	@exec $(NODE) src/main.ts

.PHONY: test
test: $(INSTALLED) ## run every test that this machine can run; REQUIRE_DOCKER=1 fails where there is no Docker engine
	@exec $(NODE) --test --test-concurrency=$(TEST_CONCURRENCY) $(wildcard test/*.test.ts test/*/*.test.ts)

.PHONY: test-apps
test-apps: $(INSTALLED) ## start apps of many frameworks, installed and built, under the packed kit; needs a registry, skipped without
	@exec $(NODE) --test --test-concurrency=1 --test-timeout=600000 test/apps/frameworks.ts test/apps/installs.ts test/apps/init.ts test/apps/tracing.ts

.PHONY: check
check: $(INSTALLED) ## types, lint, format and prose
	@$(NODE) node_modules/typescript/bin/tsc -p .
	@$(NODE) node_modules/@biomejs/biome/bin/biome check .
	@$(NODE) test/prose/lint.ts

.PHONY: format
format: $(INSTALLED) ## put the sources into their format
	@$(NODE) node_modules/@biomejs/biome/bin/biome check --write .

.PHONY: docs
docs: $(INSTALLED) ## write the generated parts of the documentation, and its drawn pictures
	@$(NODE) --test --test-reporter=dot --test-name-pattern 'the drawn pictures' test/pictures/draw.ts
	@UPDATE_DOCS=1 $(NODE) --test --test-reporter=dot test/docs-reference.test.ts test/pictures.test.ts

.PHONY: image
image: ## build the image koa-bosun:0.1.0; IMAGE=koa-bosun:42 gives it another tag
	docker build -f docker/Dockerfile -t $(IMAGE) --build-arg REVISION=$$(git rev-parse --short HEAD 2>/dev/null || echo unknown) --build-arg CREATED=$$(date -u +%FT%TZ) .

.PHONY: test-readme
test-readme: $(INSTALLED) ## follow README.md and docs/guide: every command block, in a bare clone of HEAD and an Express project, timed
	@exec $(NODE) --test --test-timeout=900000 test/docs/follow.ts

.PHONY: pictures
pictures: $(INSTALLED) ## draw the pictures of the documentation again; needs Chromium
	@REQUIRE_BROWSER=1 exec $(NODE) --test test/pictures/draw.ts

# Needs nothing of the clone's own packages.
.PHONY: site
site: $(SITE) ## build the site of the documentation into docs/site/dist; SITE_BASE=/path/ if it is served below a path
	@$(NODE) docs/site/node_modules/vitepress/bin/vitepress.js build docs/site
	@echo 'The site: docs/site/dist (make site-preview shows it)'

.PHONY: site-preview
site-preview: site ## build the site and serve it on http://127.0.0.1:4173; PORT
	@exec $(NODE) docs/site/preview.mjs

.PHONY: test-site
test-site: $(INSTALLED) $(SITE) ## build the site below a path, check its links, and visit every page in Chromium: two sizes, light and dark
	@$(NODE) node_modules/typescript/bin/tsc -p docs/site
	@exec $(NODE) --test test/site/site.ts

$(SITE): docs/site/package.json docs/site/package-lock.json
	npm ci --prefix docs/site --ignore-scripts --loglevel error
	@touch $@

# npm runs no script here (.npmrc), not even the one that compiles what is packed.
.PHONY: package
package: $(INSTALLED) ## pack koa-bosun-0.1.0.tgz, to be installed into other projects; PACKAGE_DIR says where
	@npm pack --ignore-scripts=false --loglevel error --pack-destination $(PACKAGE_DIR)

.PHONY: release
release: $(INSTALLED) ## check, pack and tag the version of package.json, write its notes, print what to push; DRY_RUN=1 writes no tag
	@exec $(NODE) release/release.mjs $(if $(DRY_RUN),--dry-run)

.PHONY: loadtest
loadtest: $(INSTALLED) ## load the running stack, or one that it starts: SCENARIO, DURATION, RATE, CONNECTIONS, URL, OUT, COMPARE; see docs/guide/load-testing.md
	@exec $(NODE) src/loadtest/main.ts

.PHONY: bench
bench: $(INSTALLED) $(PEERS) ## measure start-up, CPU per request, monitoring, sizing, and the kit against its peers, 10 minutes on a quiet machine; ROUNDS, QUICK=1, ONLY
	@exec $(NODE) test/bench/main.ts

# What the kit is compared with: 150 MB that nothing else needs.
$(PEERS): test/bench/peers/package.json test/bench/peers/package-lock.json
	npm ci --prefix test/bench/peers --ignore-scripts --loglevel error
	@touch $@

.PHONY: bench-dev
bench-dev: $(INSTALLED) ## bosun dev: from a save to the first answer of the new code, ROUNDS=20 times, about 1 minute
	@$(NODE) test/bench/dev.ts

.PHONY: bench-balancing
bench-balancing: $(INSTALLED) ## the balancing policies against rr, seven workloads, about 15 minutes
	@$(NODE) test/bench/balancing.ts

.PHONY: bench-rebalance
bench-rebalance: $(INSTALLED) ## kept connections after a scale-up: share of the new worker, closes, moves afterwards, about 8 minutes; ROUNDS, SECONDS, ONLY; needs nginx
	@OUT=test/output/bench-rebalance.json exec $(NODE) test/bench/rebalance.ts

.PHONY: bench-memory
bench-memory: $(INSTALLED) ## the size of V8's young generation: four workloads in containers of four sizes, about 25 minutes; SIZES=512 WORKLOADS=held,json for some; needs Docker
	@$(NODE) test/bench/memory.ts

.PHONY: bench-overload
bench-overload: $(INSTALLED) ## twice the sustainable load, without a limit, with the one of the event loop, and adaptive, about 6 minutes; ROUNDS, ONLY
	@OUT=test/output/bench-overload.json exec $(NODE) test/bench/overload.ts

.PHONY: bench-state
bench-state: $(INSTALLED) ## broadcasts between pods, and sessions without Redis, about 2 minutes; needs redis-server
	@$(NODE) test/bench/broadcast.ts
	@$(NODE) test/bench/sessions.ts
	@$(NODE) test/bench/replica-wait.ts

.PHONY: soak
soak: $(INSTALLED) ## long tests: SOAK_ROLLS=20 rolls of each policy beside kills, floods, a broken Redis and broken versions; drains; sockets; cgroup v2; a stopped PostgreSQL; about 50 minutes
	@SOAK=1 SOAK_USERS=1000 KILLS=60 POOL_RUNS=50000 exec $(NODE) --test --test-concurrency=1 $(SOAKED) test/pool-properties.test.ts \
		test/service-migration.test.ts test/soak/service-name.ts test/soak/pool.ts test/soak/sockets.ts test/soak/redis-sentinels.ts test/soak/database.ts \
		test/soak/leader.ts

.PHONY: mutants
mutants: $(INSTALLED) ## mutation testing of src/pool, balancing, state and the worker's server, or of FILES; SAMPLE=n for n random lines
	@exec $(NODE) test/mutants/run.ts

.PHONY: bench-rolling
bench-rolling: $(INSTALLED) ## 50 rolling restarts under mixed load for each of five policies; ROLLS and POLICIES choose less; nothing may fail
	@$(NODE) test/bench/rolling.ts

.PHONY: k8s-check
k8s-check: $(INSTALLED) ## check the Kubernetes manifests, without a cluster: rules, and the schemas of Kubernetes 1.31 to 1.36
	@exec $(NODE) --test test/k8s*.test.ts test/chart*.test.ts test/autoscaling.test.ts

.PHONY: k8s-schemas
k8s-schemas: $(INSTALLED) ## write the schemas that k8s-check goes by, from packages of the registry
	@$(NODE) test/k8s/generate-schemas.ts

.PHONY: k8s-render
k8s-render: $(INSTALLED) ## write k8s/*.yaml, which kubectl apply -f k8s applies, from k8s/overlays/default, k8s/chart/files and the dashboard's copy; needs kubectl
	@$(NODE) test/k8s/top-level.ts
	@$(NODE) test/k8s/chart-files.ts

.PHONY: k8s-new
k8s-new: $(INSTALLED) ## write an overlay for an app: NAME=shop IMAGE=registry/shop:2.0.0 NAMESPACE=team, and COMPONENTS='redis hpa', PORT, HOST
	@exec env $(foreach name,PORT HOST,$(if $(filter command,$(origin $(name))),,-u $(name))) $(NODE) src/init/new-overlay.ts

.PHONY: k8s-load
k8s-load: ## put the image (IMAGE) into the cluster of the current context, or of CONTEXT; IMPORT='…' is a command for another cluster
	@IMAGE=$(IMAGE) exec k8s/make/load-image.sh

.PHONY: k8s-apply
k8s-apply: ## apply k8s/, or the overlay NAME, to the current cluster and wait until its minimum number of pods serves
	@exec k8s/make/apply.sh

.PHONY: k8s-delete
k8s-delete: ## delete what k8s-apply has applied, but not the namespace and the sessions; NAME
	@exec k8s/make/delete.sh

.PHONY: k8s-rollout
k8s-rollout: ## replace the app's pods in the current cluster under load, and count the requests that fail: none may; NAME
	@exec k8s/make/rollout.sh

# `make help` lists the targets. Everything fetched is pinned, checked and kept in .cache/.
.DEFAULT_GOAL := help
.PHONY: help demo dashboards packages test-packages clickhouse services lint test faults soak check bench schemas fuzz \
  superset superset-check superset-browser overview-check optimized targets

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: clickhouse ## Kafka, ClickHouse, traffic and Tidegauge on this machine; ARGS="--for 60s"
	cargo build --profile demo --bins
	target/demo/tidegauge demo $(ARGS)

superset: clickhouse ## the demo with a week behind it, and its dashboards in Superset in the browser; ARGS="--port 8088"
	@.ci/fetch superset
	cargo build --profile demo --bins
	@.cache/superset/6.1.0/bin/python deploy/superset/local.py $(ARGS)

# Slow, and Superset takes 1 GB on disk: not a part of `make test`.
superset-check: clickhouse ## every chart in a fresh Superset, its figures against ClickHouse's
	@.ci/fetch superset
	cargo build --profile demo --bins
	@.cache/superset/6.1.0/bin/python deploy/superset/check.py $(ARGS)

# Both take minutes and Chromium; pictures go to target/browser.
superset-browser: clickhouse ## the dashboards in a fresh Superset, looked at in Chromium
	@.ci/fetch superset browser
	cargo build --profile demo --bins
	@.cache/browser/bin/python tests/browser/dashboards.py --superset-python .cache/superset/6.1.0/bin/python $(ARGS)

overview-check: clickhouse ## the demo's web pages, looked at in Chromium, their figures against ClickHouse's
	@.ci/fetch browser
	cargo build --profile demo --bins
	@.cache/browser/bin/python tests/browser/overview.py $(ARGS)

dashboards: packages ## writes the files of BI tools in deploy/ anew from deploy/dashboards/
	cargo run --bin tidegauge -- dashboards $(ARGS)

packages: # what the build needs of the system
	@.ci/fetch packages

test-packages: # and what the tests need
	@.ci/fetch test-packages

clickhouse: packages ## the embedded ClickHouse
	@.ci/fetch clickhouse

services: test-packages # what the tests start
	@.ci/fetch clickhouse kafka registry

lints = cargo fmt --check && cargo clippy --all-targets -- -D warnings && \
  RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --lib --bin tidegauge-clickhouse

lint: test-packages
	$(lints)

# Without services; many of them wait for a broker's timeouts, so there are more at once than cores.
quick_tests = cargo test --no-fail-fast --lib --bins --test tidy --test engine --test contract -- --test-threads 8

# What is said by what runs beside the lints.
beside = target/benches.log target/quick-tests.log

# They wait for brokers and sessions too, but start several processes each.
service_tests = $(shell echo $$(( $$(nproc) + 2 )))

# The tests come last, so that the runner's own summaries end the output. They run even if a lint fails: a newer
# clippy may know more lints. All is built first and at once, so that no core waits for the longest package. The benches
# and the quick tests mostly wait, so the lints run beside them, once both have let go of cargo's lock; what they say is
# shown when all have ended.
test: services ## everything: lints, docs, all tests with real services, benches once
	@linted=0; failed=0; \
	cargo test --no-run --lib --bins --tests --benches || failed=1; \
	mkdir -p target; rm -f $(beside); \
	{ cargo test --bench '*'; echo "exit code $$?"; } > target/benches.log 2>&1 & \
	{ $(quick_tests); echo "exit code $$?"; } > target/quick-tests.log 2>&1 & \
	for log in $(beside); do until grep -qsE 'Running|exit code' $$log; do sleep 0.1; done; done; \
	{ $(lints); } || linted=1; \
	wait; for log in $(beside); do cat $$log; tail -n 1 $$log | grep -qx 'exit code 0' || failed=1; done; \
	cargo test --doc || failed=1; \
	cargo test --test service -- --test-threads $(service_tests) || failed=1; \
	[ $$failed = 0 ] || exit 1; \
	[ $$linted = 0 ] || echo "the tests pass, but not the lints: see above" >&2; exit $$linted

ROWS ?= all
SEED ?= 1
JOBS ?= 2
HOURS ?= 1
ROUNDS ?= 3

# Built as the demo is. With JOBS=1 recovery times are held against their limits.
faults: services ## the fault matrix, and target/faults/report.md; ROWS=P1,C2 SEED=1,2,3 JOBS=1
	@TIDEGAUGE_FAULTS=$(ROWS):$(SEED):$(JOBS) cargo test --profile demo --test service -- \
	  --nocapture --exact faults::every_row_is_sound_and_those_asked_for_hold || exit 1

soak: services ## random faults for hours, and target/faults/soak.md; HOURS=1 SEED=2
	@TIDEGAUGE_SOAK=$(SEED):$(HOURS) cargo test --profile demo --test service -- \
	  --nocapture --exact faults::soak::random_faults_leave_the_tables_equal_to_the_oracle || exit 1

check: packages ## the quick part: lints, tests without services
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	$(quick_tests)

optimized: services ## target/optimized/tidegauge: built with a profile of its own run, 6 to 12 % less CPU; 20 minutes
	@.ci/optimize

bench: services ## the benchmarks, by name with ARGS="--bench decode"
	cargo bench $(ARGS)

targets: services ## what the program aims at in speed, measured in one run beside other systems; 15 minutes
	@.ci/fetch peers
	cargo bench --bench end_to_end -- targets --sets avro,json --peers clickhouse,streams,flink --rate 100000 --rounds $(ROUNDS)
	cargo bench --bench memory

schemas: packages ## writes schemas/clickhouse/ anew from the tables in the source
	cargo test --test contract --no-run
	rm -f target/tmp/tables.sql target/tmp/views.sql
	mkdir -p schemas/clickhouse
	@# The test that compares leaves what it expected in target/tmp, if that differs.
	@cargo test -q --test contract the_printed_statements_are_the_files_in_schemas > target/tmp/schemas.log 2>&1; \
	for file in tables views; do \
	  if [ -f target/tmp/$$file.sql ]; then cp target/tmp/$$file.sql schemas/clickhouse/ && echo "schemas/clickhouse/$$file.sql is new"; fi; \
	done
	@cargo test -q --test contract the_printed_statements_are_the_files_in_schemas

fuzz_targets = json avro framing rows config
SECONDS ?= 60

# New inputs go to target/fuzz/corpus; what is worth keeping is copied to tests/fuzz/corpus, which every test run reads.
# The sanitizer is for the Rust code: librdkafka's build can't link C code that has it.
fuzz: packages ## the fuzz targets one after the other, SECONDS=60 each, or some of them: TARGETS="json avro"
	@cargo +nightly fuzz --version > /dev/null 2>&1 || { echo "cargo-fuzz or nightly Rust is not there: run" \
	  "'rustup toolchain install nightly' and 'cargo install cargo-fuzz --locked', then start again" >&2; exit 1; }
	@for target in $(or $(TARGETS),$(fuzz_targets)); do \
	  mkdir -p target/fuzz/corpus/$$target && echo "fuzz: $$target, $(SECONDS) s" && \
	  CFLAGS=-fno-sanitize=all nice cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz $$target \
	    target/fuzz/corpus/$$target tests/fuzz/corpus/$$target -- -max_total_time=$(SECONDS) -timeout=10 \
	    -max_len=4096 -dict=tests/fuzz/$$target.dict -print_final_stats=1 || exit 1; \
	done

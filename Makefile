# shmipc. The two commands: make demo, make test. All others: make help.
# Programs are found by name (tests/test_*.c and so on), so adding a file is enough. Everything is built in build/.

CC ?= cc
CXX ?= c++
CFLAGS ?= -O2 -g
CXXFLAGS ?= $(CFLAGS)
PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# make FULL=1 ... runs the long sweeps; make test sets SHORT=1 for what has a short form. Programs read both from the
# environment.
export CC CXX JOBS
ifdef FULL
export FULL
endif

B := build
WARN := -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-align -Werror
CWARN := $(WARN) -Wstrict-prototypes -Wmissing-prototypes -Wc++-compat
C := $(CC) -std=c11 $(CWARN) -MMD -MP
CPP := $(CXX) -std=c++11 $(WARN) -MMD -MP
LIBS := -pthread -Wl,-z,now
SAN := -O1 -g -fno-omit-frame-pointer
SUBMAKE = $(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS))

programs = $(patsubst %.c,$(B)/%,$(wildcard $(1)))
TESTS := $(call programs,tests/test_*.c tests/stress_*.c)
THREADS := $(call programs,tests/thread_*.c)
CRASHES := $(call programs,tests/crash/crash_*.c)
MODELS := $(call programs,tests/model/model_*.c)
FUZZERS := $(call programs,tests/fuzz/fuzz_*.c)
EXAMPLES := $(call programs,examples/c/*.c) $(patsubst %.cc,$(B)/%-cc,$(wildcard examples/c/*.cc))
BENCHES := $(wildcard bench/$(or $(BENCH),*)/run)
# The models run the same lines in many more ways, and take their time: only with FULL=1.
COV_TESTS := $(patsubst $(B)/tests/%,$(B)/cov/%,$(TESTS) $(THREADS) $(if $(FULL),$(MODELS)))
SAN_TESTS := $(patsubst $(B)/tests/%,$(B)/san/%,$(call programs,tests/test_*.c))
SAN_THREADS := $(patsubst $(B)/tests/%,$(B)/tsan/%,$(THREADS))

VERSION := $(shell awk '/define SHMIPC_VERSION_(MAJOR|MINOR|PATCH)/ { v = v s $$3; s = "." } END { print v }' shmipc.h)

SONAME := libshmipc.so.$(firstword $(subst ., ,$(VERSION)))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all help demo test test-c test-compile test-crash test-model test-san test-mutants test-counts python test-python test-windows \
	test-cross test-docs fuzz soak bench install dist coverage clean

all: $(B)/libshmipc.a $(B)/libshmipc.so $(TESTS) $(EXAMPLES) ## build the libraries, the tests and the examples

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo "Overridable: CC CXX CFLAGS CXXFLAGS PREFIX JOBS; FULL=1 for the long sweeps; CHECK_SEED=n repeats a run."

# What a target needs is installed first: rules that compile depend (order only) on setup-build.
SETUPS := setup-build setup-python setup-test-python setup-demo setup-test-docs setup-test setup-test-compile setup-test-cross setup-test-mutants setup-test-counts setup-fuzz setup-bench setup-coverage setup-dist
.PHONY: $(SETUPS)
$(SETUPS): setup-%:
	@tools/setup $*

demo: setup-demo $(EXAMPLES) ## build and run the examples
	@$(if $(EXAMPLES),for p in $(EXAMPLES); do echo "== $$p"; $$p || exit 1; done,echo "demo: there are no examples yet")

# Everything that a change must pass. Goes on after a failure, so that the last line is the sum of all.
TEST_STEPS := test-c test-docs test-compile test-model test-crash test-san test-mutants test-counts test-python
test: setup-test ## everything that a change must pass; the last line is the sum
	@rm -rf $(B)/report/totals $(B)/report/spec.jsonl
	@bad=0; for step in $(TEST_STEPS); do echo "== $$step"; $(if $(FULL),,SHORT=1) $(SUBMAKE) -s -k $$step || { bad=1; tools/run-tests --broken $$step; }; done; \
	tools/run-tests --total && exit $$bad || exit 1

# ---- building ---------------------------------------------------------------------------------------------------

$(B)/shmipc.o: shmipc.c | setup-build
	@mkdir -p $(@D) && rm -f $@
	$(C) $(CFLAGS) -fPIC -c $< -o $@
$(B)/libshmipc.a: $(B)/shmipc.o
	rm -f $@ && $(AR) rcs $@ $<
$(B)/libshmipc.so: $(B)/shmipc.o
	$(CC) $(CFLAGS) -shared -Wl,-soname,$(SONAME) $< -o $@ $(LIBS)

$(B)/tests/%: tests/%.c | setup-build
	@mkdir -p $(@D) && rm -f $@
	$(C) $(CFLAGS) -Itests -Itests/model -Itests/crash -MF $@.d $< -o $@ $(LIBS)
$(B)/tests/fuzz/%: tests/fuzz/%.c | setup-build
	@mkdir -p $(@D)
	$(C) $(SAN) -fsanitize=address,undefined -fno-sanitize-recover=all -MF $@.d $< -o $@ $(LIBS)
$(B)/san/%: tests/%.c | setup-build
	@mkdir -p $(@D) && rm -f $@
	$(C) $(SAN) -fsanitize=address,undefined -fno-sanitize-recover=all -Itests -MF $@.d $< -o $@ $(LIBS)
$(B)/tsan/%: tests/%.c | setup-build
	@mkdir -p $(@D) && rm -f $@
	$(C) $(SAN) -fsanitize=thread -Itests -MF $@.d $< -o $@ $(LIBS)
$(B)/examples/c/%: examples/c/%.c | setup-build
	@mkdir -p $(@D) && rm -f $@
	$(C) $(CFLAGS) -I. -MF $@.d $< -o $@ $(LIBS)
# What an example links beside the library, it says in a line "links: -lname".
$(B)/examples/c/%: LIBS += $(shell sed -n 's/^ \* links: //p' examples/c/$*.c 2>/dev/null)
$(B)/examples/c/%-cc: examples/c/%.cc | setup-build
	@mkdir -p $(@D) && rm -f $@
	$(CPP) $(CXXFLAGS) -I. -MF $@.d $< -o $@ $(LIBS)
$(B)/cov/%: tests/%.c $(B)/coverage-exit.o | setup-coverage
	@mkdir -p $(@D) && rm -f $@
	$(C) -O0 -g --coverage -Itests -Itests/model -MF $@.d $< $(B)/coverage-exit.o -o $@ $(LIBS) -Wl,--wrap=_exit
$(B)/coverage-exit.o: tools/coverage-exit.c | setup-coverage
	@mkdir -p $(@D)
	$(C) -O0 -g -MF $@.d -c $< -o $@

# The unit tests for another machine, static, so that qemu-user needs nothing but the program.
define cross_programs
$(B)/cross/$(1)/%: tests/%.c | setup-test-cross
	@mkdir -p $$(@D) && rm -f $$@
	$(2) -std=c11 $$(CWARN) -MMD -MP -O2 -g -static -D_FILE_OFFSET_BITS=64 -Itests -MF $$@.d $$< -o $$@ -pthread
endef
EMULATED := aarch64-linux-gnu arm-linux-gnueabihf riscv64-linux-gnu
$(foreach m,$(EMULATED) i686-linux-gnu,$(eval $(call cross_programs,$(m),$(m)-gcc)))
# musl-gcc knows no kernel headers; the system's come last, after musl's own.
$(eval $(call cross_programs,musl,musl-gcc -idirafter /usr/include -idirafter /usr/include/$(shell uname -m)-linux-gnu))
-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- testing ----------------------------------------------------------------------------------------------------

# A program that does not build is one failure; the others are run all the same.
run_programs = +@$(if $(1),$(SUBMAKE) -k $(1) || true; tools/run-tests $(1),echo "$@: there is nothing yet")

test-c: ## unit, edge and multi-process stress tests
	$(call run_programs,$(TESTS))
test-crash: export RUN_LIMIT := $(if $(FULL),7200,900)
test-crash: ## kill a process after every instruction of every operation
	@rm -f $(B)/report/crash.jsonl
	$(call run_programs,$(CRASHES)); status=$$?; tools/crash-summary && exit $$status
test-model: ## every schedule, every weak-memory read, every kill
	@rm -f $(B)/report/model.jsonl
	$(call run_programs,$(MODELS))
test-san: ## the tests under ASan and UBSan, the thread tests under TSan
	$(call run_programs,$(SAN_TESTS) $(SAN_THREADS))
test-compile: setup-test-compile ## compilers, standards, options, symbols, other machines
	@tools/run-tests tests/compile/run
test-docs: setup-test-docs ## compile and run the examples, and the snippets of README, docs and manual
	+@$(SUBMAKE) -k $(EXAMPLES) || true; EXAMPLES="$(EXAMPLES)" tools/run-tests tools/snippets
test-mutants: setup-test-mutants ## planted errors in the header must be caught
	@$(if $(wildcard tests/mutants/*.tsv),tools/run-tests tools/mutate,echo "test-mutants: there is no table of mutants yet")
# A test that an emulator cannot run says why in a comment: "not under emulation: reason".
CROSS_TESTS := $(patsubst tests/%.c,%,$(wildcard tests/test_*.c))
NOT_EMULATED := $(patsubst tests/%.c,%,$(shell grep -l 'not under emulation:' tests/test_*.c))
CROSSES := $(foreach m,$(EMULATED),$(addprefix $(B)/cross/$(m)/,$(filter-out $(NOT_EMULATED),$(CROSS_TESTS)))) \
	$(foreach m,i686-linux-gnu musl,$(addprefix $(B)/cross/$(m)/,$(CROSS_TESTS)))
test-counts: setup-test-counts ## instructions of the hot operations, against the agreed counts
	@tools/run-tests tools/callgrind-counts
test-cross: ## the unit tests on aarch64, armhf, riscv64 (emulated), i686 and musl
	@grep -ho 'not under emulation:.*' $(NOT_EMULATED:%=tests/%.c) /dev/null | sed 's:^:left out, :; s: *\*/$$::'
	$(call run_programs,$(CROSSES))
# Built and installed into build/venv, where the tests import it from; again when a source or a header changed.
PYTHON_SOURCES := $(wildcard shmipc*.h $(addprefix bindings/python/,*.toml setup.py native/* src/shmipc/*.py src/shmipc/py.typed))
$(B)/python.stamp: $(PYTHON_SOURCES) | setup-python
	@rm -rf $(B)/python && mkdir -p $(B)/python && cp -r bindings $(wildcard shmipc*.h) $(B)/python
	@$(B)/venv/bin/pip install --quiet --no-index --no-deps --no-build-isolation --force-reinstall $(B)/python/bindings/python
	@touch $@
python: $(B)/python.stamp ## build the Python package and install it into build/venv
test-python: setup-test-python ## the Python package: every pattern across processes
	+@$(SUBMAKE) python && tools/run-tests bindings/python/tests/run
test-windows: ## (not written yet)
	@echo "test-windows: the Windows layer is not written yet; test-compile compiles rings and atomics for it"
# SECONDS is shared out: FULL and IMAGES ask for a number of images instead.
fuzz: setup-fuzz $(FUZZERS) ## damage things under ASan and UBSan for SECONDS (default 60), or IMAGES each
	@for p in $(FUZZERS); do \
	    if [ -n "$(IMAGES)" ]; then $$p $(IMAGES) || exit 1; continue; fi; \
	    end=$$(($$(date +%s) + $(or $(SECONDS),60) / $(words $(FUZZERS)))); seed=$${SEED:-1}; \
	    while $$p 500 $$seed >$(B)/fuzz.log 2>&1 || { cat $(B)/fuzz.log; exit 1; }; [ $$(date +%s) -lt $$end ]; do \
	        seed=$$((seed + 1)); done; tail -n 2 $(B)/fuzz.log; done
SOAKS := $(call programs,tests/stress_*.c)
soak: setup-build $(SOAKS) ## processes of all roles killed, stopped and restarted for SECONDS (default 600)
	@end=$$(($$(date +%s) + $(or $(SECONDS),600))); ms=$$(($(or $(SECONDS),600) * 125)); [ $$ms -lt 60000 ] || ms=60000; \
	while SOAK_MS=$$ms tools/run-tests $(SOAKS) || exit 1; [ $$(date +%s) -lt $$end ]; do :; done
bench: setup-bench ## measure, beside the peers of the same run; BENCH=name for one of them
	@$(if $(BENCHES),for p in $(BENCHES); do $$p || exit 1; done,echo "bench: there are no benchmarks yet")

coverage: $(COV_TESTS) ## line coverage of the header by all tests
	@tools/coverage $(COV_TESTS)

install: $(B)/libshmipc.a $(B)/libshmipc.so ## install headers, libraries and the pkg-config file below PREFIX
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 $(wildcard shmipc*.h) $(DESTDIR)$(PREFIX)/include
	install -m 644 $(B)/libshmipc.a $(DESTDIR)$(PREFIX)/lib
	install -m 755 $(B)/libshmipc.so $(DESTDIR)$(PREFIX)/lib/libshmipc.so.$(VERSION)
	ln -sf libshmipc.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libshmipc.so
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: shmipc' 'Description: crash-safe inter-process communication over shared memory' \
		'Version: $(VERSION)' 'Cflags: -I$${prefix}/include' 'Libs: -L$${prefix}/lib -lshmipc -pthread' \
		>$(DESTDIR)$(PREFIX)/lib/pkgconfig/shmipc.pc
dist: setup-dist ## an archive of the tracked files
	@mkdir -p $(B)
	git archive --prefix=shmipc-$(VERSION)/ -o $(B)/shmipc-$(VERSION).tar.gz HEAD
	@echo $(B)/shmipc-$(VERSION).tar.gz

clean: ## remove build/
	rm -rf $(B)

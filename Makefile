# shmipc. The two commands: make demo, make test. All others: make help.
# Programs are found by name (tests/test_*.c and so on), so adding a file is enough. Everything is built in build/.

CC ?= cc
CXX ?= c++
CFLAGS ?= -O2 -g
CXXFLAGS ?= $(CFLAGS)
PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# make FULL=1 ... runs the long sweeps; SHORT=1 is what make test uses for the crash programs. Programs read both
# from the environment.
export FULL SHORT

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
BENCHES := $(wildcard bench/*/run)
SAN_TESTS := $(patsubst $(B)/tests/%,$(B)/san/%,$(call programs,tests/test_*.c))
SAN_THREADS := $(patsubst $(B)/tests/%,$(B)/tsan/%,$(THREADS))

VERSION := $(shell awk '/define SHMIPC_VERSION_(MAJOR|MINOR|PATCH)/ { v = v s $$3; s = "." } END { print v }' shmipc.h)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all help setup demo test test-c test-compile test-crash test-model test-san test-python test-windows \
	test-cross test-mutants fuzz soak bench install dist coverage clean

all: setup-build $(B)/libshmipc.a $(B)/libshmipc.so $(TESTS) $(EXAMPLES) ## build the libraries, tests and examples

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo "Overridable: CC CXX CFLAGS CXXFLAGS PREFIX JOBS; FULL=1 for the long sweeps; CHECK_SEED=n repeats a run."

setup-%:
	@tools/setup $*

# ---- building ---------------------------------------------------------------------------------------------------

$(B)/shmipc.o: shmipc.c
	@mkdir -p $(@D)
	$(C) $(CFLAGS) -fPIC -c $< -o $@
$(B)/libshmipc.a: $(B)/shmipc.o
	rm -f $@ && $(AR) rcs $@ $<
$(B)/libshmipc.so: $(B)/shmipc.o
	$(CC) $(CFLAGS) -shared -Wl,-soname,libshmipc.so.$(firstword $(subst ., ,$(VERSION))) $< -o $@ $(LIBS)

$(B)/tests/%: tests/%.c
	@mkdir -p $(@D)
	$(C) $(CFLAGS) -Itests -Itests/model -Itests/crash -MF $@.d $< -o $@ $(LIBS)
$(B)/san/%: tests/%.c
	@mkdir -p $(@D)
	$(C) $(SAN) -fsanitize=address,undefined -fno-sanitize-recover=all -Itests -MF $@.d $< -o $@ $(LIBS)
$(B)/tsan/%: tests/%.c
	@mkdir -p $(@D)
	$(C) $(SAN) -fsanitize=thread -Itests -MF $@.d $< -o $@ $(LIBS)
$(B)/examples/c/%: examples/c/%.c
	@mkdir -p $(@D)
	$(C) $(CFLAGS) -I. -MF $@.d $< -o $@ $(LIBS)
$(B)/examples/c/%-cc: examples/c/%.cc
	@mkdir -p $(@D)
	$(CPP) $(CXXFLAGS) -I. -MF $@.d $< -o $@ $(LIBS)
-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- testing ----------------------------------------------------------------------------------------------------

test-c: setup-build $(TESTS) ## unit, edge and multi-process stress tests
	@tools/run-tests $(TESTS)
test-crash: setup-build $(CRASHES) ## kill a process after every instruction of every operation
	@rm -f $(B)/report/crash.jsonl
	@tools/run-tests $(CRASHES)
test-model: setup-build $(MODELS) ## every schedule, every weak-memory read, every kill
	@rm -f $(B)/report/model.jsonl
	@tools/run-tests $(MODELS)
test-san: setup-build $(SAN_TESTS) $(SAN_THREADS) ## the tests under ASan and UBSan, the thread tests under TSan
	@CHECK_SLOW=5 tools/run-tests $(SAN_TESTS) $(SAN_THREADS)

clean: ## remove build/
	rm -rf $(B)

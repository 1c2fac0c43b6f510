# make demo: set everything up and explain the embedded clip.  make test: set everything up and run the tests.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
WHEEL := .venv-wheel
SOURCES := $(wildcard csrc/*.cpp csrc/*.h)
# What bench compares with; without its dependencies, for it brings OpenCV's headless build, which overwrites contrib's.
PEER := --quiet --no-deps "grad-cam>=1.5" ttach
# Threads of OpenMP that spin make everything 30 times slower where another process holds a core.
export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 0
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: demo test test-gpu setup check format wheel sanitize bench clean test-versions mutate docs

demo: setup
	@echo "== explaining the embedded clip"
	@$(VENV)/bin/aosa-fast demo --out out/demo

test: setup
	@echo "== running the tests"
	@$(VENV)/bin/pytest

# The Triton twins compiled and run on a GPU; elsewhere, and in `make test`, they run in Triton's interpreter.
test-gpu: setup
	@$(VENV)/bin/pytest --device cuda tests/kernels tests/test_explain_on_twins.py tests/test_devices.py

setup: $(READY)

$(READY): pyproject.toml setup.py $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: PYTHON must be Python 3.11 or newer; got $$($(PYTHON) --version)" >&2; exit 2; }
	@test -x $(VENV)/bin/python || { echo "== making the virtual environment $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "== installing dependencies and compiling the extension (torch is large: minutes the first time)"
	@PYTHONWARNINGS=ignore $(VENV)/bin/pip install --quiet --progress-bar on --editable ".[test,models]"
	@$(VENV)/bin/pip install $(PEER)
	@touch $@

# The oldest versions that pyproject.toml allows, two sets between, and the newest that resolve, each in an environment of
# its own (7 GB) with the package installed, not the checkout. By hand: an hour, TESTS=tests/test_x.py for a part. Old
# packages may use what newer ones deprecate.
test-versions: test-oldest test-torch-2.11.0 test-torch-2.14.1 test-newest

test-%:
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	@$(PYTHON) tests/versions.py $* >.venv-$*/constraints.txt
	@echo "== $*: installing"
	@PYTHONWARNINGS=ignore .venv-$*/bin/pip install --quiet --upgrade --constraint .venv-$*/constraints.txt ".[test,models]"
	@.venv-$*/bin/pip install $(PEER)
	@.venv-$*/bin/pip list 2>/dev/null | grep -E '^(torch|triton|numpy|numba|av|pillow) '
	@.venv-$*/bin/python -P -m pytest -W ignore::DeprecationWarning $(TESTS)

TOOLS := $(VENV)/.tools

$(TOOLS): $(READY)
	@echo "== installing the checkers"
	@PYTHONWARNINGS=ignore $(VENV)/bin/pip install --quiet --editable ".[test,models,check]"
	@touch $@

# The types are checked on the installed wheel, where mypy can see aosa_fast.kernels.
check: $(TOOLS) wheel
	@echo "== format, lint, types"
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/clang-format --dry-run --Werror csrc/*.cpp csrc/*.h
	@cd $(WHEEL) && ../$(VENV)/bin/mypy --config-file ../pyproject.toml --python-executable bin/python -p aosa_fast
	@cd $(WHEEL) && ../$(VENV)/bin/mypy --config-file ../pyproject.toml --python-executable bin/python ../tests/typed_calls.py

# Builds the sdist, and the wheel from it, as PyPI's users get them; installs the wheel alone in a fresh environment that
# borrows only the dependencies, and runs the tests that a user's first minutes rest on against it. The sdist's own tests
# are collected only: they are the same.
wheel: $(TOOLS)
	@echo "== building and testing the sdist and the wheel"
	@rm -rf $(WHEEL) build dist && $(VENV)/bin/python -m venv --without-pip $(WHEEL)
	@$(VENV)/bin/python -m build --outdir dist . >$(VENV)/wheel.log 2>&1 || { cat $(VENV)/wheel.log >&2; exit 1; }
	@$(VENV)/bin/twine check --strict dist/*
	@test ! -x $(VENV)/bin/auditwheel || $(VENV)/bin/auditwheel show dist/*.whl
	@$(VENV)/bin/pip --python $(WHEEL)/bin/python install --quiet --no-deps dist/*.whl
	@$(VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])' \
		>"$$($(WHEEL)/bin/python -c 'import site; print(site.getsitepackages()[0])')/dependencies.pth"
	@AOSA_EXPECT_WHEEL=1 $(WHEEL)/bin/python -P -m pytest --quiet --durations=0 -o addopts="--import-mode=importlib" \
		tests/test_packaging.py tests/cli/test_cli.py tests/test_golden.py
	@mkdir $(WHEEL)/sdist && tar -xzf dist/*.tar.gz -C $(WHEEL)/sdist --strip-components 1
	@cd $(WHEEL)/sdist && ../bin/python -P -m pytest --quiet --quiet --collect-only >../collected.log || \
		{ tail -n 50 ../collected.log >&2; exit 1; }

SANITIZED := build/sanitize
SANITIZE := -fsanitize=address,undefined,float-cast-overflow

# The tests of the C++ operators, with every access to memory and every undefined step watched: a finding ends Python, so
# pytest must not hold back what is said of it. Leaks are not looked for: all that were found would be the interpreter's.
sanitize: $(TOOLS)
	@echo "== compiling the extension with AddressSanitizer and UndefinedBehaviorSanitizer"
	@rm -rf $(SANITIZED) && $(VENV)/bin/python -m build --sdist --outdir $(SANITIZED) . >$(VENV)/sanitize.log 2>&1 || \
		{ cat $(VENV)/sanitize.log >&2; exit 1; }
	@CC=gcc CXX=g++ LDFLAGS="$(SANITIZE)" \
		CXXFLAGS="$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer -g -D_GLIBCXX_ASSERTIONS" \
		$(VENV)/bin/pip install --quiet --no-deps --target $(SANITIZED)/lib $(SANITIZED)/*.tar.gz
	@export PYTHONPATH=$(SANITIZED)/lib ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)"; \
		grep -q __asan_report "$$($(VENV)/bin/python -P -c 'from aosa_fast import _C; print(_C.__file__)')" && \
		$(VENV)/bin/python -P -m pytest --quiet --capture=sys \
		$(filter-out %_triton.py %_jit.py %_compile.py, $(wildcard tests/kernels/*.py))

format: $(TOOLS)
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/clang-format -i csrc/*.cpp csrc/*.h

# Times everything, and checks the answers first: an hour. SUITES="--suite stages:operators --quick" for less of it.
bench: setup
	@$(VENV)/bin/aosa-fast bench $(SUITES)

# Which small changes of kernels, metrics and the extension do the tests not notice? Hours; by hand.
# MUTATE="--every 14 --jobs 2 aosa_fast/metrics/causal.py" for a sample.
mutate: setup
	@$(VENV)/bin/python tests/mutation $(MUTATE)

# The documentation as a site in out/site, with warnings as errors; its notebook runs. make test runs its examples.
docs: setup
	@echo "== building the documentation"
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet --site-dir out/site
	@echo "out/site/index.html"

clean:
	rm -rf $(VENV) $(VENV)-* build dist out *.egg-info aosa_fast/_C*.so

# `make` alone lists the targets.

# The first of these that is new enough; name another with: make setup PYTHON=/path/to/python
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	echo $$p; break; fi; done),python3)
PY = .venv/bin/python
STAMP = .venv/.installed
# Side by side: a file to a process, each with homes and ports of its own.
PYTEST = $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder
# A room without a network: what `make wheels` has put there is all that pip may take. Not this
# time: make setup OFFLINE=
OFFLINE = $(if $(wildcard wheels/*.whl),--no-index --find-links "$(CURDIR)/wheels")
TOOK_WHEELS = It took wheels/ alone, which is for one platform and one Python. With a network: make setup OFFLINE=
# What `make chaos` makes: a storm for each seed, and so many starts of the lab that are killed.
SEEDS = $(shell shuf -i 1-999999 -n 10)
PIPELINES = 60
FAULTS = 100
STARTS = 5

# Another Python's settings are not this one's, and what pip installs belongs into .venv.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_PREFIX PIP_TARGET PIP_ROOT

define CHECK
import sys
if sys.version_info < (3, 11):
    sys.exit("The lab needs Python 3.11 or newer, and %s is %s.\nInstall a newer one, then name it: "
             "make setup PYTHON=python3.13" % (sys.executable, sys.version.split()[0]))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("%s cannot make virtual environments.\nOn Debian and Ubuntu: apt install python%d.%d-venv"
             % ((sys.executable,) + sys.version_info[:2]))
endef
export CHECK

.PHONY: help setup wheels lab dashboard test quick lint format chaos course notebooks pictures figures doctor down reset clean again

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## install everything into .venv (a minute or two, once)

# Nothing to do while the stamp is newer than the pins. Set up again when the folder has moved or
# the Python is gone; start over when the last set-up was interrupted.
ifneq ($(shell test -x $(PY) && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): again
endif
$(STAMP): pyproject.toml constraints.txt
	@if test -e .venv/.installing || \
	    ! $(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  command -v "$(PYTHON)" >/dev/null || \
	    { echo 'There is no $(PYTHON) here: install Python 3.11 or newer.'; exit 1; }; \
	  "$(PYTHON)" -c "$$CHECK" && "$(PYTHON)" -m venv --clear .venv || exit 1; \
	fi
	@rm -f $(STAMP) && pwd -P > .venv/.installing
	@PIP_USER=0 $(PY) -m pip install --disable-pip-version-check --no-compile -c constraints.txt $(OFFLINE) -e '.[test]' || \
	  { echo 'The set-up is not complete: pip says why above. Then run make setup again.'; \
	    $(if $(OFFLINE),echo '$(TOOK_WHEELS)';) \
	    exit 1; }
	@$(PY) -I -c 'import labkit, jupyterlab, psycopg2, sklearn, temporalio' || \
	  { echo 'Installed, but not into .venv. See: $(PY) -m pip config list'; \
	    echo 'Unset a prefix, target or root that it lists, then run make setup again.'; exit 1; }
	@$(PY) -m compileall -qq -j 0 -x /tests/ .venv/lib || true  # pip would use one core
	@mv .venv/.installing $(STAMP)

# Setuptools builds labkit, so pip asks for it, too. Half a folder is none.
wheels: ## download what make setup takes into wheels/, for laptops like this one without a network
	@$(MAKE) --no-print-directory setup OFFLINE=
	@rm -rf wheels.part
	$(PY) -m pip download --disable-pip-version-check -q -c constraints.txt -d wheels.part '.[test]' 'setuptools>=77'
	@rm -rf wheels && mv wheels.part wheels
	@$(PY) -c 'import platform as p; print("wheels/ is for Python %s.%s on %s %s. Copy this whole folder, and run make setup there." \
	  % (*p.python_version_tuple()[:2], p.system(), p.machine()))'

lab: setup ## open the lab in JupyterLab, at notebook 00
	@$(PY) -m labkit lab

dashboard: setup ## open the dashboard as a page of its own (dark: make dashboard ARGS=--theme=dark)
	@$(PY) -m labkit dashboard $(ARGS)

test: lint ## run every check and test (a part: make test ARGS="-k watcher")
	$(PYTEST) tests --ignore tests/figures -m 'not long' $(ARGS)
	$(if $(ARGS),,$(PY) -m pytest tests/figures -m 'not long')

quick: lint ## run the checks, and the tests of the units and of the workflow
	$(PYTEST) tests/unit tests/workflow $(ARGS)

lint: setup ## check format, style, types, layers and size
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache --no-logo
	$(PY) -m tests.bars

format: setup ## put format and style right
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

chaos: setup ## storms of faults over real pipelines (again: make chaos SEEDS="1 2")
	CHAOS_CLOCK=$(CLOCK) CHAOS_SEEDS="$(SEEDS)" CHAOS_PIPELINES=$(PIPELINES) \
	  CHAOS_FAULTS=$(FAULTS) CHAOS_STARTS=$(STARTS) $(PY) -m pytest tests/chaos \
	  $(or $(ARGS),-k 'storm or any_moment or two_labs')

course: setup ## run each notebook alone, and each of its cells twice; print the course in figures
	$(PYTEST) tests/notebooks -m long $(ARGS)
	$(PY) -m tests.notebooks.measure

notebooks: setup ## run the notebooks again and keep their outputs
	$(PY) -m tests.notebooks

pictures: setup ## make the pictures in notebooks/images again, with Chromium
	$(PY) -m pytest tests/browser/test_pictures.py -m long $(ARGS)

figures: setup ## measure all figures, which takes minutes, and print them
	FIGURES=promised $(PY) -m pytest tests/figures -s

doctor: setup ## check this machine and say what to mend (mend it: make doctor ARGS=--fix)
	@$(PY) -m labkit doctor $(ARGS)

down: ## stop everything that the lab started
	@test ! -x $(PY) || $(PY) -m labkit down

reset: setup ## stop everything, end its workflows and empty what runs made
	@$(PY) -m labkit reset

clean: ## stop everything, then remove .venv and caches
	@$(MAKE) -s down || echo 'Going on: servers of the lab may still run.'
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find labkit tests -name __pycache__ -prune -exec rm -rf {} +

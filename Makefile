# Every target sets up what it needs: .venv, the packages in the versions of constraints.txt, the data.
# Options of the scripts go in ARGS:  make train ARGS="--model gap_cnn --seed 1"

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: help train evaluate explore compare tune predict serve export test lint bench leaderboard torture data clean

help:
	@echo "make train       train the default network"
	@echo "make evaluate    score and draw the newest run"
	@echo "make explore     look at the data"
	@echo "make compare     train and compare all networks, recipes and baselines; long"
	@echo "make tune        search for better options"
	@echo "make predict     tell what is on pictures: make predict ARGS=shoe.jpg"
	@echo "make serve       a web page and an API, at http://127.0.0.1:8000"
	@echo "make export      SavedModel, ONNX and LiteRT of the newest run"
	@echo "make test        run the tests"
	@echo "make lint        check style and formatting with Ruff"
	@echo "make bench       measure the speed, beside plain Keras; under ten minutes"
	@echo "make leaderboard train the recipes and tell what their accuracy costs; long"
	@echo "make torture     kill trainings, fill disks, break inputs; half an hour"
	@echo "make clean       remove .venv; runs and data stay"

train: $(VENV)/core
	$(RUN) train_cnn.py $(ARGS)

evaluate: $(VENV)/core
	$(RUN) evaluate_model.py $(ARGS)

explore: $(VENV)/core
	$(RUN) -m tools.explore_data $(ARGS)

compare: $(VENV)/sweeps
	$(RUN) -m tools.compare_models $(ARGS)

tune: $(VENV)/sweeps
	$(RUN) -m tools.tune_model $(ARGS)

predict: $(VENV)/core
	$(RUN) -m tools.predict_image $(ARGS)

serve: $(VENV)/serve
	$(RUN) -m tools.serve_model $(ARGS)

export: $(VENV)/export
	$(RUN) -m tools.export_model $(ARGS)

# Two processes, each of which keeps to a core.
test: $(VENV)/test data
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 --dist worksteal $(ARGS)

bench: $(VENV)/core
	$(RUN) -m benchmarks.measure_speed $(ARGS)

leaderboard: $(VENV)/core
	$(RUN) -m benchmarks.leaderboard $(ARGS)

torture: $(VENV)/test data
	$(RUN) -m benchmarks.torture $(ARGS)

data: $(VENV)/core
	@$(RUN) -c "import sys; from fmnist import cli, source; \
		sys.exit(cli.exit_code('make data', lambda: print('Data:', source.find()[1])))"

lint: $(VENV)/test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# A file in .venv marks what is installed, so that an installation that was cut off is done again.
$(VENV)/core: requirements.txt constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and was not found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo "Installing TensorFlow and the other packages into $(VENV), once: a few minutes"
	@$(INSTALL) -r requirements.txt
	@touch $@

# The optional packages of pyproject.toml, each extra once.
$(VENV)/sweeps $(VENV)/serve $(VENV)/export $(VENV)/test: $(VENV)/%: $(VENV)/core pyproject.toml
	@$(INSTALL) --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV)

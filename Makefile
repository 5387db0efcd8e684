# Every target creates .venv if necessary, and installs the packages in the versions of
# constraints.txt. ARGS passes options to the command: make train ARGS="--model gap_cnn --seed 1"

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
# Without a suitable Python, uv installs one. It comes from PyPI if it is not installed.
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
NO_PYTHON := echo "Python 3.11, 3.12 or 3.13 was not found, and uv could not install one;" \
	"install Python 3.13, or pass the path of another one: make PYTHON=/path/to/python" >&2; exit 1
CREATE_VENV = $(if $(PYTHON),$(PYTHON) -m venv --clear $(VENV),rm -rf $(VENV) && \
	$(UV) venv --quiet --seed --python 3.13 $(VENV) || { $(NO_PYTHON); })
INSTALL := $(RUN) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: help train evaluate inspect explore compare tune predict serve export test \
	test-old-keras test-notebook lint resolve bench leaderboard tables fault-injection data clean

help:
	@echo 'Usage: make TARGET [ARGS="options of the command"]'
	@echo
	@echo "make train            train the default network (about two minutes)"
	@echo "make evaluate         evaluate the newest run on the test set and plot the results"
	@echo "make inspect          look inside the newest run: filters, feature maps, mistakes"
	@echo "make explore          analyse the data set and plot the results"
	@echo "make compare          train and compare all networks, recipes and baselines (hours)"
	@echo "make tune             search for better hyperparameters"
	@echo "make predict          classify pictures: make predict ARGS=shoe.jpg"
	@echo "make serve            serve a web page and a REST API at http://127.0.0.1:8000"
	@echo "make export           export the newest run to SavedModel, ONNX and LiteRT"
	@echo "make test             run the tests (about 8 minutes)"
	@echo "make test-old-keras   test that Keras 3.10 opens what is saved (installs it first)"
	@echo "make test-notebook    run docs/tutorial.ipynb (about a minute)"
	@echo "make lint             check style and formatting with Ruff"
	@echo "make resolve          check that all packages exist for Linux, Windows and macOS"
	@echo "make bench            compare the training speed with plain Keras (half an hour)"
	@echo "make leaderboard      measure accuracy and training time of all recipes (hours)"
	@echo "make tables           write the result tables of README.md and docs/ from the JSON files"
	@echo "make fault-injection  kill trainings, fill disks and corrupt inputs (30 minutes)"
	@echo "make data             find or download the data set"
	@echo "make clean            remove the installed packages; runs and data are kept"

train: $(VENV)/core
	$(RUN) train_cnn.py $(ARGS)

evaluate: $(VENV)/core
	$(RUN) evaluate_model.py $(ARGS)

inspect: $(VENV)/inspect
	$(RUN) -m tools.inspect_model $(ARGS)

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

# Two test processes with one thread each, for two cores.
test: $(VENV)/test data
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 --dist worksteal $(ARGS)

# The saved networks open with the oldest supported Keras, in a virtual environment of its own.
test-old-keras: $(VENV)/test $(VENV)-old-keras/installed
	OLD_KERAS_PYTHON="$(CURDIR)/$(VENV)-old-keras/bin/python" $(RUN) -m pytest tests/test_old_keras.py

# With ARGS=--inplace, the notebook is saved with its new outputs.
test-notebook: $(VENV)/notebook data
	$(VENV)/bin/jupyter execute $(ARGS) docs/tutorial.ipynb

bench: $(VENV)/core
	$(RUN) -m benchmarks.measure_speed $(ARGS)

leaderboard: $(VENV)/core
	$(RUN) -m benchmarks.leaderboard $(ARGS)

tables: $(VENV)/core
	$(RUN) -m benchmarks.tables $(ARGS)

fault-injection: $(VENV)/test data
	$(RUN) -m benchmarks.fault_injection $(ARGS)

data: $(VENV)/core
	@$(RUN) -c "import sys; from fmnist import cli, source; \
		sys.exit(cli.exit_code('make data', lambda: print('Data:', source.find()[1])))"

lint: $(VENV)/test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

resolve: $(VENV)/test
	$(RUN) .ci/resolve.py $(VENV)/bin/uv

.uv/bin/uv:
	@python3 -m venv --clear .uv && .uv/bin/python -m pip install --quiet uv \
		|| { rm -rf .uv; $(NO_PYTHON); }

# A file in .venv marks a complete installation. An interrupted installation is repeated.
$(VENV)/core: requirements.txt constraints.txt | $(if $(PYTHON),,$(UV))
	@$(CREATE_VENV)
	@echo "Installing TensorFlow and the other packages into $(VENV) (a few minutes, only once)"
	@$(INSTALL) -r requirements.txt
	@touch $@

# The extras (groups of optional packages) of pyproject.toml.
EXTRAS := sweeps serve export inspect notebook test
$(EXTRAS:%=$(VENV)/%): $(VENV)/%: $(VENV)/core pyproject.toml
	@$(INSTALL) --editable ".[$*]"
	@touch $@

# TensorFlow 2.19 is as old as Keras 3.10, and needs Python 3.11 or 3.12, which uv finds or
# installs.
$(VENV)-old-keras/installed: requirements.txt | $(VENV)/test
	rm -rf $(@D)
	$(VENV)/bin/uv venv --quiet --seed --python ">=3.11,<3.13" $(@D)
	$(@D)/bin/python -m pip install --disable-pip-version-check --quiet \
		"keras==3.10.*" "tensorflow==2.19.*" pillow scipy scikit-learn matplotlib rich
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-old-keras .uv

# Two commands. Both make their environment in .venv/ first, once. PYTHON=python3.12 make demo chooses the interpreter.
PYTHON ?= python3

.PHONY: demo test test-all

# Bakes the project with its defaults into build/ and takes it to a measured .tflite.
demo:
	@sh tools/environment.sh "$(PYTHON)"
	@.venv/bin/python -m tools.demo

# Tests the template; the tests bake projects and run the projects' own tests too. What CI runs.
test:
	@sh tools/environment.sh "$(PYTHON)"
	@.venv/bin/python -m pytest -n 2 --dist worksteal -m "not release"

# All tests, also those of every model and of two machines: before a release.
test-all:
	@sh tools/environment.sh "$(PYTHON)"
	@.venv/bin/python -m pytest -n 2 --dist worksteal

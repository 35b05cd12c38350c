.PHONY: serve setup demo test lint bench lock schema fuzz docs docs-refresh container peers

setup: ; scripts/setup.sh dev
demo: ; scripts/demo.sh
test: ; scripts/test.sh
lint: setup ; .venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
# A hundred times longer than in the tests; what fails is kept in tests/fuzz/corpus.
fuzz: setup ; CONVCALC_FUZZ_EXAMPLES=10000 .venv/bin/pytest tests/fuzz
serve: setup ; .venv/bin/convcalc serve
bench: setup ; .venv/bin/python -m benchmarks
# The documentation as HTML in build/docs; warnings are errors, nothing is fetched.
docs: setup ; .venv/bin/sphinx-build -W --keep-going --quiet docs build/docs
# Brings what the documentation shows of the program up to date: outputs, help, tables, drawings.
docs-refresh: setup ; .venv/bin/python scripts/docs.py
# Needs buildah and debootstrap: builds the image, runs it and holds it to its promises.
container: setup ; scripts/container.sh
# Other tools beside ours; several gigabytes.
peers: ; scripts/peers.sh

# Needs uv. No registry address gets into the files. Extras stay on the pins: pip, which tells `coverage[toml]` from
# `coverage`, would else refuse the lock as soon as a newer coverage is out.
LOCK = uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest \
	--no-emit-index-url --generate-hashes --no-strip-extras --custom-compile-command 'make lock'
# The published schema of network specs, from the operators' own fields.
schema: setup ; .venv/bin/python -c "import json, convcalc; print(json.dumps(convcalc.network_schema(), indent=1))" > docs/network.schema.json

lock:
	$(LOCK) --extra dev --output-file requirements/dev.txt
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/core.txt
	$(LOCK) --constraint requirements/dev.txt --extra serve --extra images --extra hdf5 --output-file requirements/serve.txt
	$(LOCK) --constraint requirements/dev.txt --extra serve --extra images --extra hdf5 --extra tensorflow --output-file requirements/verify.txt
	$(subst pyproject.toml,requirements/build.in,$(LOCK)) --output-file requirements/build.txt

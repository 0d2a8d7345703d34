# The parts of `./gfe check` by name; CI runs the same.
.PHONY: check test docs site sbom
check:
	./gfe check
test:
	./gfe test
docs:
	.venv/bin/python -m serve_app.cli.reference docs/reference/cli.md
	.venv/bin/python -m serve_app.local.errors_reference docs/reference/errors.md
	.venv/bin/python -m serve_app.local.settings_reference docs/reference/settings.md
	.venv/bin/python -m serve_app.local.api_reference docs/reference
	.venv/bin/python -m serve_app.boards.metrics_reference docs/reference/metrics.md
	.venv/bin/python -m serve_app.boards helm/gpu-for-everyone/boards
	.venv/bin/python -m bench.reliability
# The documents as a site with a search, in build/site. Any web server shows it.
site: .venv-site/.made
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --strict --quiet
	@echo "python3 -m http.server -d build/site   shows it"
.venv-site/.made: requirements/site.txt
	python3 -m venv .venv-site
	.venv-site/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/site.txt
	touch $@
# What the product is made of, for whoever has to know: CycloneDX, from the pins alone.
sbom:
	.venv/bin/python -m serve_app.local.sbom sbom.cdx.json

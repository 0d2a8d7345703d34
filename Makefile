# The parts of `./gfe check` by name; CI runs the same.
.PHONY: check test docs
check:
	./gfe check
test:
	./gfe test
docs:
	.venv/bin/python -m serve_app.cli.reference docs/reference/cli.md
	.venv/bin/python -m serve_app.local.errors_reference docs/reference/errors.md
	.venv/bin/python -m serve_app.local.settings_reference docs/reference/settings.md
	.venv/bin/python -m serve_app.local.api_reference docs/reference

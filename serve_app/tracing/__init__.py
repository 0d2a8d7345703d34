"""Traces of jobs for OpenTelemetry, where an operator runs a collector."""

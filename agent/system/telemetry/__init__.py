"""Traces, metrics and logs for an OpenTelemetry collector (contract 70 §10)."""

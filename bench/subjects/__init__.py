"""Whom the bench measures: each a process of its own, which takes its settings from a line on standard input."""

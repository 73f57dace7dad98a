"""One HTML file of an analysis that needs nothing else: no network, no other file, no library."""

from stagepose.evaluation.report.page import write_report

__all__ = ["write_report"]

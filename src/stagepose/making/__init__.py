"""What all sets that are made have in common: a folder that is gone on with, processes, a contact sheet."""

from stagepose.making.folder import claim, read_json
from stagepose.making.processes import Progress, end_with_parent, in_processes
from stagepose.making.sheet import draw_sheet

__all__ = ["Progress", "claim", "draw_sheet", "end_with_parent", "in_processes", "read_json"]

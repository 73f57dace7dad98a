"""What all sets that are made share: a folder that is gone on with, processes, JPEGs, a contact sheet."""

from stagepose.making.folder import claim, read_json
from stagepose.making.jpeg import encode_jpeg
from stagepose.making.processes import Progress, in_processes
from stagepose.making.sheet import draw_sheet

__all__ = ["Progress", "claim", "draw_sheet", "encode_jpeg", "in_processes", "read_json"]

"""What all sets that are made share: a folder that is gone on with, processes, scenes, JPEGs, a contact sheet."""

from stagepose.making.folder import claim, contents_digest, read_json, refuse_fewer
from stagepose.making.jpeg import encode_jpeg
from stagepose.making.keypoints import in_picture
from stagepose.making.processes import Progress, in_processes
from stagepose.making.scenes import scenes_in
from stagepose.making.sheet import draw_sheet

__all__ = ["Progress", "claim", "contents_digest", "draw_sheet", "encode_jpeg", "in_picture", "in_processes",
           "read_json", "refuse_fewer", "scenes_in"]

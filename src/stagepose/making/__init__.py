"""What all sets that are made share: their folder and file, processes, scenes, JPEGs, a contact sheet."""

from stagepose.making.jpeg import encode_jpeg
from stagepose.making.keypoints import in_picture
from stagepose.making.madeset import LARGEST_SEED, MadeSet, check_wish
from stagepose.making.processes import in_processes
from stagepose.making.scenes import scenes_in

__all__ = ["LARGEST_SEED", "MadeSet", "check_wish", "encode_jpeg", "in_picture", "in_processes",
           "scenes_in"]

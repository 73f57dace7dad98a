"""Labels of other tools: read into a COCO set, written from one. A file a format, its reader beside its writer."""

from stagepose.formats.collect import Labels
from stagepose.formats.dispatch import FOLDERS, Read, Written, detect, inputs, labelled, read, write
from stagepose.formats.yolo import splits

__all__ = ["FOLDERS", "Labels", "Read", "Written", "detect", "inputs", "labelled", "read", "splits", "write"]

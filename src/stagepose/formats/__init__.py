"""Labels of other tools: read into a COCO set, written from one. A file a format, its reader beside its writer."""

from stagepose.formats.collect import Labels
from stagepose.formats.dispatch import (
    FOLDERS,
    LABELLED,
    LINKED,
    Read,
    Source,
    Written,
    detect,
    inputs,
    labelled,
    open_source,
    write,
)

__all__ = ["FOLDERS", "LABELLED", "LINKED", "Labels", "Read", "Source", "Written", "detect", "inputs", "labelled",
           "open_source", "write"]

"""Labels of other tools: read into a COCO set, written from one. A file a format, its reader beside its writer."""

"""This folder is on the path of every test (pytest puts a conftest's folder there): ``from tiny import tiny_coco``."""

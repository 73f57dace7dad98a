"""The crop store: every person cut out once, uint8, memory-mapped; the only data path of pose training.

:mod:`~stagepose.training.packing` writes it with what :mod:`~stagepose.training.cutting` cuts out,
:mod:`~stagepose.training.store` opens it, and :mod:`~stagepose.training.shards` holds the pixels; docs/crop_store.md
has the folder, file by file.
"""

from stagepose.training.packing import fingerprint_of, open_or_pack, pack, pack_file
from stagepose.training.shards import PackConfig
from stagepose.training.store import CropSpec, CropStore, open_store

__all__ = ["CropSpec", "CropStore", "PackConfig", "fingerprint_of", "open_or_pack", "open_store", "pack",
           "pack_file"]

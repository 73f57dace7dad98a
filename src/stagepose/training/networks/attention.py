"""Attention as its parts: what torch has fused into one operation can neither be exported nor counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def in_parts() -> Iterator[None]:
    """Let torch's attention layers compute in evaluation mode as they do while they learn; the numbers are the same."""
    usual = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(usual)

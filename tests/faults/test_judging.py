"""A validation shared out to several processes (design fault D8)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_coco

SCRIPT = str(Path(__file__).with_name("judging_ranks.py"))


def judged(file, out, ranks):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    subprocess.run([sys.executable, *launcher, SCRIPT, str(file), str(out)], check=True, timeout=120,
                   env=os.environ | {"OMP_NUM_THREADS": "1"})
    metrics = json.loads(out.read_text())
    assert metrics.pop("ranks") == ranks
    return metrics


def test_two_ranks_judge_five_images_as_one_does(tmp_path):
    """D8: the images are dealt unevenly, and nobody counts twice."""
    file = tiny_coco(tmp_path, images=5, people=3)
    alone, together = judged(file, tmp_path / "one.json", 1), judged(file, tmp_path / "two.json", 2)
    assert 0 < alone["ap"] < 1
    assert together == pytest.approx(alone, rel=0, abs=1e-12)

"""``stagepose hard``: the people whom a stage-by-stage training finds hardest, as one picture."""

from __future__ import annotations

from pathlib import Path

from stagepose.commands.arguments import File, OptionalFolder, Run
from stagepose.commands.console import note, say, table
from stagepose.errors import ConfigError
from stagepose.runfiles import STAGES
from stagepose.training import hardest
from stagepose.training.table import Table

LISTED = 10  # on the terminal


def hard(
    run: Run,
    *,
    out: File = Path("hard.jpg"),
    stage: int = 1,
    count: int = 48,
    skip: int = 0,
    crops: OptionalFolder = None,
) -> None:
    """Show the hardest training people with their labels: who needs the later stages, and whose labels are wrong.

    Args:
        run: Run folder of stagepose train-stages, which may still be running.
        out: The picture, .jpg or .png.
        stage: Rank people by how well they are found after this stage.
        count: Number of people.
        skip: Leave out this many of the very hardest, most of whom are mislabelled.
        crops: Folder of the packed crops, if it was moved; by default RUN's parent / crops, or where it was.
    """
    path = run / STAGES / f"{stage}.npz"
    if not path.is_file():
        there = sorted(int(f.stem) for f in (run / STAGES).glob("*.npz"))
        why = f"there are tables after {there}" if there else ("it is no run of 'stagepose train-stages', or its first "
                                                               "stage is not done")
        raise ConfigError(f"{run}: nobody is judged after stage {stage} yet; {why}")
    people = Table.read(path)
    rows = hardest.rows(people, count, skip)
    hardest.write_sheet(people, rows, out, crops or run.parent / "crops", path)
    table(("annotation", "image", "OKS", "labelled", "hidden", "of"), [
        (str(people.annotation_ids[r]), str(people.image_ids[r]), f"{people.oks[r]:.3f}", str(people.visible[r]),
         str(people.hidden[r]), Path(people.stores[people.sets[r]]).name) for r in rows[:LISTED]])
    if len(rows) > LISTED:
        note(f"and {len(rows) - LISTED} more")
    say(f"{out}: {len(rows)} of {len(people.oks)} people, the hardest first")

"""Who the people are in a file, and which keypoints they have: the ``categories`` of a COCO file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stagepose.coco.problems import Problem, errors, problem, show
from stagepose.errors import SkeletonError
from stagepose.skeleton import COCO_17, SKELETONS, Skeleton, by_names, read_table, resolve

PERSON = "person"
COCO_NUMBERS = 3 * len(COCO_17)  # x, y, v of 17 keypoints: the one count that speaks for itself


@dataclass(frozen=True)
class People:
    """The category of the people and the skeleton of the file's own keypoint order; ``None`` where there is none."""

    category_id: int | None
    skeleton: Skeleton | None
    known_ids: frozenset[int] = frozenset()  # of all categories


def find_people(
    categories: Any, annotations: Sequence[Any], given: Skeleton | None, problems: list[Problem]
) -> People:
    """The person category: the one named so with keypoints, else the first with keypoints, else the one named so."""
    valid = _valid_categories(categories, problems)
    known = frozenset(c["id"] for c in valid)
    chosen = _choose(valid, annotations, problems)
    if chosen is None:
        wish = "expected one named 'person', or one with 'keypoints'"
        problems.append(problem("no-person-category", "categories", f"{len(valid)} categories; {wish}"))
        return People(None, given, known)
    where = f"category {show(chosen.get('name', chosen['id']))}"
    if chosen.get("keypoints"):
        skeleton = _that_fits(_skeleton_of(chosen, where, problems), chosen["id"], annotations, where, problems)
    else:
        skeleton = _skeleton_by_count(chosen["id"], annotations, given, where, problems)
    return People(chosen["id"], skeleton, known)


def resolve_skeleton(name_or_path: str) -> Skeleton:
    """A published skeleton by name, or that of a file: one of a skeleton, or a COCO annotation file with its category.

    Of several with a + between them the union. :class:`SkeletonError` says what is wrong with a file.
    """
    return resolve(name_or_path, read_skeleton)


def read_skeleton(path: Path) -> Skeleton:
    """From a skeleton file, or from the category of a COCO annotation file: the one that its people are read by.

    Names are as :func:`stagepose.coco.read_dataset` has them, left and right are paired by their names.
    """
    data = read_table(path)
    if not isinstance(data, dict) or "categories" not in data:
        return Skeleton.read(path)
    problems: list[Problem] = []
    chosen = _choose(_valid_categories(data["categories"], problems), (), problems)
    if chosen is None or not chosen.get("keypoints"):
        raise SkeletonError(f"{path}: no category of this annotation file lists keypoints; list their names there, or "
                            "write a skeleton file")
    found = _skeleton_of(chosen, f"category {show(chosen.get('name', chosen['id']))}", problems)
    if found is None:
        raise SkeletonError(f"{path}: {errors(problems)[-1]}; mend its category, or write a skeleton file")
    name = chosen.get("name")
    return found if found.name in SKELETONS else replace(found, name=name if isinstance(name, str) else path.stem)


def _valid_categories(categories: Any, problems: list[Problem]) -> list[Mapping[str, Any]]:
    if not isinstance(categories, list):
        problems.append(problem("layout", "categories", f"is {show(categories)}, expected a list"))
        return []
    valid: dict[int, Mapping[str, Any]] = {}
    for index, category in enumerate(categories):
        wrong = None
        if not isinstance(category, dict):
            wrong = f"is {show(category)}, expected an object"
        elif type(category.get("id")) is not int:
            wrong = f"id is {show(category.get('id'))}, expected a whole number"
        elif category["id"] in valid:
            wrong = f"id {category['id']} is used twice"
        if wrong:
            problems.append(problem("category", f"categories[{index}]", wrong, "categories", index))
        else:
            valid[category["id"]] = category
    return list(valid.values())


def _choose(
    valid: Sequence[Mapping[str, Any]], annotations: Sequence[Any], problems: list[Problem]
) -> Mapping[str, Any] | None:
    with_keypoints = [c for c in valid if c.get("keypoints")]
    named = [c for c in valid if isinstance(c.get("name"), str) and c["name"].strip().lower() == PERSON]
    both = [c for c in with_keypoints if c in named]
    candidates = [*both, *with_keypoints, *named, *(valid if len(valid) == 1 else [])]
    if not candidates:
        return None
    others = [c for c in valid if c is not candidates[0] and (c in with_keypoints or c in named)]
    if others:
        _tell_left_out(candidates[0], others, named, annotations, problems)
    return candidates[0]


def _tell_left_out(chosen: Mapping[str, Any], others: Sequence[Mapping[str, Any]], named: Sequence[Mapping[str, Any]],
                   annotations: Sequence[Any], problems: list[Problem]) -> None:
    """Only one category's annotations are people: how many of ``others`` are not, and an error where they must be."""
    uses = Counter(a["category_id"] for a in annotations if isinstance(a, dict) and type(a.get("category_id")) is int)
    twins = [c["id"] for c in others if c in named and chosen in named and uses[c["id"]]]
    if twins:
        detail = (f"{len(twins) + 1} are named 'person', with ids {show([chosen['id'], *twins])}; the "
                  f"{sum(uses[i] for i in twins)} annotations of all but the first would be left out")
        problems.append(problem("several-person-categories", "categories", detail))
    rest = [c for c in others if c not in named or chosen not in named]
    left = sum(uses[c["id"]] for c in rest)
    if left:
        names = show([c.get("name", c["id"]) for c in rest])
        detail = (f"{show(chosen.get('name', chosen['id']))} is taken for the people's; {left} annotations of {names}, "
                  "which have keypoints too or are named 'person', are left out")
        problems.append(problem("several-keypoint-categories", "categories", detail))


def _that_fits(
    skeleton: Skeleton | None, category_id: int, annotations: Sequence[Any], where: str, problems: list[Problem]
) -> Skeleton | None:
    """The skeleton, unless all people, two or more, agree on another count: then the list of names is the mistake."""
    counts = [len(listed) for listed in _listed(category_id, annotations)]
    numbers = 3 * len(skeleton) if skeleton else 0
    if skeleton is None or len(counts) < 2 or len(set(counts)) > 1 or counts[0] == numbers or counts[0] % 3:
        return skeleton
    detail = f"lists {len(skeleton)} keypoints, but all {len(counts)} people have {counts[0]} numbers, 3 for each of "
    problems.append(problem("keypoint-names", where, f"{detail}{counts[0] // 3}"))
    return None


def _listed(category_id: int, annotations: Sequence[Any]) -> Iterator[list[Any]]:
    """The lists of keypoints of the people, but for empty ones."""
    mine = (a for a in annotations if isinstance(a, dict) and a.get("category_id") == category_id)
    return (a["keypoints"] for a in mine if isinstance(a.get("keypoints"), list) and a["keypoints"])


def _skeleton_by_count(
    category_id: int, annotations: Sequence[Any], given: Skeleton | None, where: str, problems: list[Problem]
) -> Skeleton | None:
    """Without names in the file, the count of numbers must speak: 51 are COCO's, 3 K those of the given skeleton."""
    count = len(next(_listed(category_id, annotations), [None] * COCO_NUMBERS))
    if given is not None and count == 3 * len(given):
        return given
    if count == COCO_NUMBERS:
        return COCO_17
    wish = f"skeleton {given.name} has {3 * len(given)}, COCO's 17 have 51" if given else "only 51 need no names"
    detail = f"names no keypoints, and annotations have {count} numbers; {wish}"
    problems.append(problem("keypoint-names-missing", where, detail))
    return None


def _skeleton_of(category: Mapping[str, Any], where: str, problems: list[Problem]) -> Skeleton | None:
    names = category["keypoints"]
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        problems.append(problem("keypoint-names", where, f"keypoints is {show(names)}, expected a list of names"))
        return None
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        problems.append(problem("keypoint-names", where, f"keypoints has {show(twice)} more than once"))
        return None
    plain = tuple(plain_name(n) for n in names)
    return by_names(plain if len(set(plain)) == len(plain) else tuple(names), _limbs(category, where, problems))


def plain_name(name: str) -> str:
    """``Left Shoulder`` and ``left-shoulder`` are ``left_shoulder``."""
    return "_".join(name.lower().replace("-", " ").replace("_", " ").split())


def _limbs(category: Mapping[str, Any], where: str, problems: list[Problem]) -> list[tuple[int, int]]:
    """Pairs of keypoint indices from 0; where one does not fit, all are reported and left out.

    They count the keypoints of another set then: those of CrowdPose's files are COCO's 17.
    """
    pairs, count = category.get("skeleton", []), len(category["keypoints"])
    good = [
        (pair[0] - 1, pair[1] - 1)
        for pair in (pairs if isinstance(pairs, list) else [])
        if isinstance(pair, list)
        and len(pair) == 2
        and all(type(end) is int and 1 <= end <= count for end in pair)
        and pair[0] != pair[1]
    ]
    if not isinstance(pairs, list) or len(good) < len(pairs):
        detail = f"skeleton is {show(pairs)}, expected pairs of numbers from 1 to {count}; no pair is used"
        problems.append(problem("limbs", where, detail))
        return []
    return good

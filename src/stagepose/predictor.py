"""Pictures in, people out: detector, crops in one batch, network, decode, flip test, rescoring, OKS-NMS.

Pixels are uint8 RGB; points and boxes are in pixels of the upright picture (docs/coordinates.md).
N people of a picture, K keypoints, H W crop size, h w heatmap size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import repeat, zip_longest
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PillowImage

from stagepose.aliases import Float
from stagepose.config import LEAST_TILE, PredictorConfig, replaced
from stagepose.errors import ConfigError, ModelError
from stagepose.geometry import Affine, Padding, both_ways, crop_affine, fit_box
from stagepose.heatmaps import Codec
from stagepose.images import Picture, read_image
from stagepose.lines import printable
from stagepose.modelinfo import ModelInfo
from stagepose.oks import RESCORE_RULES, oks_nms, ranking, rescore, soft_oks_nms
from stagepose.runtime import (
    EARLIER_STEP,
    Detector,
    DetectorModel,
    Model,
    PoseEnsemble,
    PoseModel,
    PoseNetwork,
    Providers,
    read_info,
    shipped,
)
from stagepose.skeleton import Skeleton
from stagepose.structures import Detections, Person, foremost
from stagepose.tiling import detect_tiled, parts_of_others

# An array is RGB, (H, W, 3) uint8; never BGR
Image: TypeAlias = str | Path | bytes | IO[bytes] | NDArray[Any] | PillowImage | Picture
Boxes: TypeAlias = Detections | NDArray[Any] | Sequence[Sequence[float]]  # of one picture; plain ones xyxy, (N, 4)

DEFAULT_POSE = "pose-small"
DEFAULT_DETECTOR = "person-small"
FARTHEST = 10_000_000  # pixels that an edge of a box may lie away; beyond, doubles lose a crop's last digits

_Model = TypeVar("_Model", PoseModel, DetectorModel)


class Predictor:
    """``predictor(pictures)`` -> the people of each picture, best first. Always a list of lists.

    ``network`` is any callable with the signature of :data:`PoseNetwork`; ``info`` has the skeleton, codec and padding
    of its crops and heatmaps. Without a ``detector`` every call must pass boxes.
    """

    def __init__(self, info: ModelInfo, network: PoseNetwork, detector: Detector | None = None,
                 config: PredictorConfig | None = None) -> None:
        self.info, self.network, self.detector = info, network, detector
        self.config = config or PredictorConfig()
        self.skeleton, self.codec = info.heatmaps_of

    def __repr__(self) -> str:
        """The models by their names, and the threshold."""
        finder = getattr(self.detector, "info", None)
        detector = finder.name if isinstance(finder, ModelInfo) else "none" if self.detector is None else "your own"
        return f"<Predictor: pose {self.info.name}, detector {detector}, threshold {self.threshold:g}>"

    @property
    def threshold(self) -> float:
        """The minimum person score: of the settings, else of the pose model, else the default."""
        return self.info.shown_from if self.config.threshold is None else self.config.threshold

    def with_config(self, **changes: Any) -> Predictor:
        """The same loaded models with other settings."""
        return Predictor(self.info, self.network, self.detector, replaced(self.config, changes))

    def __call__(self, images: Image | Iterable[Image], *,
                 boxes: Boxes | Iterable[Boxes | None] | None = None) -> list[list[Person]]:
        """One picture or many, which may differ in size; a generator or an (N, H, W, 3) array will do.

        A picture is a path, the bytes of a file or an open one, an RGB uint8 array, a Pillow picture, or what
        :func:`stagepose.read_image` gave.

        ``boxes``: the people's boxes, xyxy, instead of the detector's: (N, 4) or :class:`Detections` for one picture;
        for many a list with an entry for each, where None asks the detector.
        """
        return list(self.stream(images, boxes=boxes))

    def stream(self, images: Image | Iterable[Image], *,
               boxes: Boxes | Iterable[Boxes | None] | None = None) -> Iterator[list[Person]]:
        """Like a call, one picture at a time: the next is taken and read once the one before has been given.

        ``images`` and ``boxes`` may be generators, even endless ones. A picture's error is raised when its turn comes.
        """
        for picture, its_boxes in _paired(images, boxes):
            yield self.people(self._read(picture), its_boxes)

    def people(self, picture: Picture, boxes: Boxes | None = None) -> list[Person]:
        """The people of one picture that has been read."""
        found = self.detect(picture) if boxes is None else as_detections(boxes)
        _refuse_far(found.boxes, picture)
        points_NK2, scores_NK = self.keypoints(picture.pixels, found.boxes)
        ranks_N = rescore(found.scores, scores_NK, self.config.rescoring)
        if boxes is None and self.config.tiles is not None:
            stay = ~parts_of_others(found.boxes, points_NK2, scores_NK, ranks_N, self._areas(found.boxes),
                                    np.array(self.skeleton.sigmas), self.threshold)
            found = Detections(boxes=found.boxes[stay], scores=found.scores[stay])
            points_NK2, scores_NK, ranks_N = points_NK2[stay], scores_NK[stay], ranks_N[stay]
        kept, ranks = self._ranked(points_NK2, ranks_N, found.boxes)
        people = [
            Person(box=found.boxes[n], keypoints=points_NK2[n], scores=scores_NK[n], score=score,
                   skeleton=self.skeleton, box_score=float(found.scores[n]))
            for n, score in zip(kept, ranks.tolist(), strict=True)
            if boxes is not None or score >= self.threshold
        ]
        return people if self.config.keep is None else foremost(people, self.config.keep, self.config.keep_by)

    def detect(self, picture: Picture) -> Detections:
        """The detector's ``max_people`` best boxes that score the box threshold or more, best first."""
        if self.detector is None:
            raise ModelError(f"{picture.name}: no boxes given, and there is no detector to find them. Pass boxes=, or "
                             "load a detector")
        least = self.threshold if self.config.box_threshold is None else self.config.box_threshold
        if self.config.tiles is None:
            return self.detector(picture.pixels).best(self.config.max_people, least)
        side = self._tile_side(self.detector)
        return detect_tiled(self.detector, picture.pixels, side, self.config.max_people, least)

    def _tile_side(self, detector: Detector) -> int:
        """Of the smallest tiles, in pixels."""
        if isinstance(self.config.tiles, int):
            return self.config.tiles
        info = getattr(detector, "info", None)
        if not isinstance(info, ModelInfo):
            raise ConfigError("tiles is 'auto', but the detector does not tell its size; give the side of a tile in "
                              "pixels")
        return max(LEAST_TILE, *info.input_size)

    def keypoints(self, pixels_HW3: NDArray[np.uint8], boxes_N4: Float) -> tuple[Float, Float]:
        """Points (N, K, 2) in the picture and scores (N, K) of the person in each box."""
        parts = [self._batch(pixels_HW3, boxes_N4[i : i + self.config.batch])
                 for i in range(0, len(boxes_N4), self.config.batch)]
        if not parts:
            return np.zeros((0, len(self.skeleton), 2)), np.zeros((0, len(self.skeleton)))
        points, scores = zip(*parts, strict=True)
        return np.concatenate(points), np.concatenate(scores)

    def _batch(self, pixels_HW3: NDArray[np.uint8], boxes_N4: Float) -> tuple[Float, Float]:
        maps = [self._maps_at(pixels_HW3, boxes_N4, scale) for scale in self.config.scales]
        mean = np.asarray(sum(maps) / len(maps), dtype=np.float32)
        return decode_crops(self.codec, self.skeleton, mean, self._affines(boxes_N4))

    def _maps_at(self, pixels_HW3: NDArray[np.uint8], boxes_N4: Float, scale: float) -> NDArray[np.float32]:
        """Heatmaps of the boxes' crops, seen in crops that show ``scale`` times as much."""
        affines, size = self._affines(boxes_N4, scale), self.info.input_size
        crops = np.stack([affine.warp(pixels_HW3, size) for affine in affines])
        maps = crop_heatmaps(self.network, self.skeleton, self.codec, crops, flip=self.config.flip)
        return maps if scale == 1 else self.codec.zoomed(maps, scale)

    def _affines(self, boxes_N4: Float, scale: float = 1.0) -> list[Affine]:
        """From the picture to each box's crop, which shows ``scale`` times as much as usual."""
        across, down = both_ways(self._padding)
        width, height = self.info.input_size
        return [crop_affine(fit_box(box, width / height, (across * scale, down * scale)), (width, height))
                for box in boxes_N4]

    @property
    def _padding(self) -> Padding:
        """The settings', else the pose model's own."""
        return self.config.box_padding or self.info.box_padding

    def _ranked(self, points_NK2: Float, scores_N: Float, boxes_N4: Float) -> tuple[NDArray[np.int64], Float]:
        """Who stays, best first, and their scores."""
        threshold = self.config.nms_threshold
        if threshold is None:
            kept = ranking(scores_N)
            return kept, scores_N[kept]
        areas = self._viewed(boxes_N4) if RESCORE_RULES[self.config.rescoring].of_view else self._areas(boxes_N4)
        sigmas = np.array(self.skeleton.sigmas)
        if self.config.soft_nms:
            return soft_oks_nms(points_NK2, scores_N, areas, sigmas, threshold, limit=len(scores_N))
        kept = oks_nms(points_NK2, scores_N, areas, sigmas, threshold)
        return kept, scores_N[kept]

    def _areas(self, boxes_N4: Float) -> Float:
        """(N,) of the boxes as they are, padded: the OKS's scale by our rule, which was tuned with it."""
        padding = self._padding
        grown = padding[0] * padding[1] if isinstance(padding, tuple) else padding**2
        return np.asarray(np.maximum((boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(axis=-1), 1.0) * grown)

    def _viewed(self, boxes_N4: Float) -> Float:
        """(N,) of the boxes as they are cut out, aspect and padding: the OKS's scale by the rules of others."""
        width, height = self.info.input_size
        views = np.array([fit_box(box, width / height, self._padding) for box in boxes_N4]).reshape(-1, 4)
        return np.asarray((views[:, 2:] - views[:, :2]).prod(axis=-1))

    def _read(self, image: Image) -> Picture:
        return image if isinstance(image, Picture) else read_image(image, max_pixels=self.config.max_pixels)


def load(pose: Model | Sequence[Model] = DEFAULT_POSE, detector: Model | None = DEFAULT_DETECTOR, *,
         threads: int | None = None, providers: Providers = None, **config: Any) -> Predictor:
    """A predictor from model files, or from the names of included models; several pose models are averaged.

    A model may also be the bytes of its file. ``detector=None``: no detector, every call passes boxes. ``threads``: by
    default all cores this process may use; ``providers``: ONNX Runtime's (``"cuda"``, or several in order of
    preference, one with options as the pair ``(name, options)``), by default the CPU. The rest are fields of
    :class:`PredictorConfig`. :class:`ModelError` for a file that is not a model of this kind, :class:`ConfigError` for
    a setting out of range.
    """
    settings = replaced(PredictorConfig(), config, besides=("pose", "detector", "threads", "providers"))
    sources = [cast(Model, pose)] if _is_one(pose) else list(cast("Sequence[Model]", pose))
    if not sources:
        raise ConfigError("pose is empty; name one model or more")
    models = [_opened(PoseModel, source, threads, providers) for source in sources]
    network = models[0] if len(models) == 1 else PoseEnsemble(models)
    finder = None if detector is None else _opened(DetectorModel, detector, threads, providers)
    return Predictor(network.info, network, finder, settings)


def _opened(model: type[_Model], source: Model, threads: int | None, providers: Providers) -> _Model:
    """The model; an error with a likely cause also says how to fix it."""
    try:
        return model(source, threads=threads, providers=providers)
    except ModelError as error:
        remedy = _remedy(model, source)
        if remedy is None:
            raise
        raise ModelError(f"{error}. {remedy}") from error


def _remedy(model: type[PoseModel] | type[DetectorModel], source: Model) -> str | None:
    if model is DetectorModel and source == DEFAULT_DETECTOR and source not in shipped():
        return ("Name a detector, or do without: detector=None, and boxes= with every call (on the command line "
                "--boxes FILE)")
    try:
        kind = read_info(source).kind
    except ModelError:
        return None
    if model is PoseModel and kind == "detector":
        return "A detector goes with a pose model: load(POSE, detector=DETECTOR), or --pose POSE --detector DETECTOR"
    if model is DetectorModel and kind == "pose":
        return "The pose model comes first: load(POSE, detector=DETECTOR), or --pose POSE --detector DETECTOR"
    return None


def crop_heatmaps(network: PoseNetwork, skeleton: Skeleton, codec: Codec, crops_NHW3: NDArray[np.uint8], *,
                  flip: bool = False) -> NDArray[np.float32]:
    """(N, K, h, w) of RGB crops, with the flip test if wanted.

    This and :func:`decode_crops` are the only way from crops to keypoints: prediction and the validation of a training
    run both come through here. :class:`ModelError` for heatmaps of another shape, NaN or infinity.
    """
    maps = _run(network, skeleton, codec, crops_NHW3)
    if not flip:
        return maps
    mirrored = np.ascontiguousarray(crops_NHW3[:, :, ::-1])
    return codec.merge_flipped(maps, _run(network, skeleton, codec, mirrored), skeleton.flip_index)


def decode_crops(codec: Codec, skeleton: Skeleton, maps_NKHW: NDArray[np.float32],
                 affines: Sequence[Affine]) -> tuple[Float, Float]:
    """Points (N, K, 2) in the picture and scores (N, K) of heatmaps, whose crops were made by ``affines``."""
    points_NK2, scores_NK = codec.decode(maps_NKHW, skeleton.sigmas)
    moved = [affine.inverse().points(xy) for affine, xy in zip(affines, points_NK2, strict=True)]
    return np.reshape(moved, points_NK2.shape), scores_NK


def _refuse_far(boxes_N4: Float, picture: Picture) -> None:
    """:class:`ConfigError` names the picture and its first box that no crop can be made of."""
    far = np.flatnonzero((np.abs(boxes_N4) > FARTHEST).any(axis=1))
    if len(far):
        height, width = picture.pixels.shape[:2]
        box = ", ".join(f"{edge:g}" for edge in boxes_N4[far[0]])
        raise ConfigError(f"{picture.name}: box [{box}] reaches more than {FARTHEST:,} pixels away from a picture of "
                          f"{width} x {height}; boxes are x1, y1, x2, y2 in pixels of the upright picture")


def as_detections(boxes: Boxes) -> Detections:
    """Plain xyxy boxes as detections with score 1; :class:`ConfigError` for a box that ends before it starts."""
    found = boxes if isinstance(boxes, Detections) else _certain(boxes)
    backwards = found.boxes[(found.boxes[:, 2:] < found.boxes[:, :2]).any(axis=1)]
    if len(backwards):
        raise ConfigError(f"boxes: {backwards[0].tolist()} ends before it starts; expected (x1, y1, x2, y2), not x, y, "
                          "width, height")
    return found


def _certain(boxes: NDArray[Any] | Sequence[Sequence[float]]) -> Detections:
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"boxes: {error}; expected one (N, 4) array of xyxy per picture") from error
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        scored = array.ndim == 2 and array.shape[1] == 5
        remedy = ("; boxes with scores go as stagepose.Detections(boxes=array[:, :4], scores=array[:, 4])" if scored
                  else ", and for a list of pictures a list with such an entry for each")
        raise ConfigError(f"boxes have shape {array.shape}; expected (N, 4) xyxy for one picture{remedy}")
    return Detections(boxes=array, scores=np.ones(len(array)))


def _run(network: PoseNetwork, skeleton: Skeleton, codec: Codec, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A network's heatmaps, checked: it may be any callable."""
    maps = network(crops)
    w, h = codec.heatmap_size
    wanted = len(crops), len(skeleton), h, w
    if maps.shape != wanted:
        raise ModelError(f"{_named(network)} gave heatmaps of shape {maps.shape}, expected {wanted}; a network takes N "
                         "crops and gives (N, K, h, w)")
    if not np.isfinite(maps).all():
        remedy = f". {EARLIER_STEP}" if _file_of(network) else ""
        raise ModelError(f"{_named(network)} gave NaN or infinite heatmaps; its weights are broken{remedy}")
    return maps


def _file_of(network: PoseNetwork) -> str | None:
    """What a model file's network was opened from; None of any other callable."""
    return getattr(network, "source", None)


def _named(network: PoseNetwork) -> str:
    return f"{printable(source)}: the network" if (source := _file_of(network)) else "the network"


def _paired(images: Image | Iterable[Image],
            boxes: Boxes | Iterable[Boxes | None] | None) -> Iterator[tuple[Image, Boxes | None]]:
    """Every picture with its boxes or None, for one picture or many; each is taken only when its turn comes."""
    if _is_one(images):
        if isinstance(boxes, (list, tuple)) and len(boxes) == 1 and (boxes[0] is None or _is_boxes(boxes[0])):
            boxes = cast("Boxes | None", boxes[0])
        yield cast(Image, images), cast("Boxes | None", boxes)
        return
    many = cast(Iterable[Image], images)
    if boxes is None:
        yield from zip(many, repeat(None))
        return
    if isinstance(boxes, Detections):
        raise ConfigError("boxes is one Detections for many pictures; give a list with one entry for each")
    if isinstance(many, Sized) and isinstance(boxes, Sized) and len(many) != len(boxes):
        raise ConfigError(f"boxes has {len(boxes)} entries for {len(many)} pictures; give a list with one for each")
    missing: Any = object()
    for done, (image, its_boxes) in enumerate(zip_longest(many, cast(Iterable[Any], boxes), fillvalue=missing)):
        if image is missing or its_boxes is missing:
            which = "more" if image is missing else "fewer"
            raise ConfigError(f"boxes has {which} entries than there are pictures: one of the two ended after {done}; "
                              "give one entry for each")
        yield image, its_boxes


def _is_one(images: object) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim != 4  # (N, H, W, 3) is many
    if hasattr(images, "read"):  # an open file, whose lines nobody means
        return True
    return isinstance(images, (str, bytes, bytearray, memoryview)) or not isinstance(images, Iterable)


def _is_boxes(value: object) -> bool:
    """Whether an entry of a list is a picture's boxes (and not one box)."""
    try:
        return isinstance(value, Detections) or np.ndim(cast(Any, value)) == 2
    except ValueError:  # lists of unlike lengths: boxes, of which _certain says what is wrong
        return True

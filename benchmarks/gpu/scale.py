"""How large the checks are: as in the study files on CUDA; on a CPU small enough for two cores and ten minutes."""

from dataclasses import dataclass

from lib.study import files, params


@dataclass(frozen=True)
class Scale:
    """Sizes of all parts."""

    device: str
    divisor: int  # of image sides and batch size
    width_divisor: int  # of a network's base channels
    workers: int  # loader processes
    round_seconds: float  # length of one timing
    rounds: int
    images: int  # phantom images of a run that is trained for a check
    epochs: int  # of such a run
    growth: tuple[int, ...]  # numbers of images between which the speed should not change
    protocol_epochs: int | None  # of the full protocol; None: as in its study file

    def study(self, name: str, **changes: object) -> params.Study:
        """A study of params/ at this scale, with changed keys."""
        values = params.values_of(params.read_study(files.study_file(name)))
        values.pop("tensorboard_images", None)
        divisors = {"base_channels": self.width_divisor, "batch_size": self.divisor}
        smaller = {key: max(4, values[key] // divisor) for key, divisor in divisors.items()}
        size = [side // self.divisor for side in values["image_size"]]
        smaller |= {"image_size": size, "device": self.device, "workers": self.workers, "tensorboard_every": None}
        return params.Study.model_validate(values | smaller | changes)


SCALES = {
    "cuda": Scale("cuda", 1, 1, 8, 1.5, 3, 192, 6, (100, 1000, 10000), None),
    "cpu": Scale("cpu", 4, 8, 0, 0.5, 2, 24, 2, (20, 100, 500), 1),
}

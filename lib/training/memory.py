"""Running out of memory: halving the portion of a batch that is processed at once."""

import torch

from lib.training.state import TrainingState


def is_exhausted(error: RuntimeError) -> bool:
    """Whether memory ran out, on the CPU or on a GPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def smaller_portion(failed: int, state: TrainingState) -> int:
    """Half of the number of images for which memory ran out; prepares the state for another attempt.

    The running averages of batch normalisation keep what the failed pass added. ValueError: one image is too much, or
    the study is deterministic, whose result must not depend on the memory that happens to be free.
    """
    if failed == 1:
        raise ValueError(f"{state.device}: too little memory for one image; set a smaller image_size or base_channels")
    if state.deterministic:
        raise ValueError(
            f"{state.device}: too little memory for a batch of {failed} images; set a smaller batch_size, or "
            "deterministic: false to accumulate the gradient over portions of a batch"
        )
    state.restart_scaler()
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    return failed // 2

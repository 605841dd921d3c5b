import pytest

from lib.study import files, params, shares

STUDY = params.read_study(files.study_file("busi_quick"))  # five folds, one seed
LARGE = params.read_study(files.study_file("hc18_unet"))


@pytest.mark.parametrize(
    ("runs", "cores", "expected"),
    [
        (1, 2, 1),
        (1, 64, 1),
        (2, 2, 2),  # 1 round of 1 against 2 of 0.55
        (5, 2, 1),  # 3 rounds of 1 against 5 of 0.55: the last would leave a core idle
        (3, 2, 1),
        (4, 2, 2),
        (5, 1, 1),
        (5, 8, 2),  # 3 rounds of 0.325 against 1 of 1
        (5, 16, 5),
        (15, 16, 15),
    ],
)
def test_as_many_trainings_share_the_cores_as_end_soonest(runs, cores, expected):
    assert shares.on_cores(runs, cores, 1) == expected


def test_sharing_is_never_slower_than_in_turn_and_never_uses_more_cores_than_there_are():
    for runs in range(1, 31):
        for cores in range(1, 65):
            at_once = shares.on_cores(runs, cores, 1)
            alone, shared = (0.1 + 0.9 / cores) * runs, (0.1 + 0.9 / (cores // at_once)) * -(-runs // at_once)
            assert 1 <= at_once <= min(runs, cores)
            assert shared <= alone + 1e-9


def test_each_training_gets_a_gpu_and_its_part_of_the_cores():
    assert shares.share(STUDY, 16, 4, on_processor=False) == shares.Share(4, 4, 1)
    assert shares.share(STUDY, 16, 8, on_processor=False) == shares.Share(5, 3, 1)
    assert shares.share(STUDY, 2, 4, on_processor=False) == shares.Share(2, 1, 1)  # a training needs a core
    assert shares.share(STUDY, 16, 0, on_processor=False) == shares.Share(1, 16, 0)  # MPS, or an unlisted GPU


def test_a_training_shared_by_processes_gets_a_gpu_or_core_for_each():
    shared = STUDY.model_copy(update={"processes": 2})
    assert shares.share(shared, 16, 5, on_processor=False) == shares.Share(2, 8, 2)
    assert shares.share(shared, 16, 0, on_processor=True).threads >= 2
    assert shares.on_cores(4, 2, 2) == 1  # 2 at once would have half a core for each process
    assert shares.on_cores(4, 1, 2) == 1  # fewer cores than processes: in turn
    assert shares.memory_mb(shared, 2) - shares.memory_mb(STUDY, 1) == 4000 + 2 * 600 + STUDY.workers * 400


def test_fewer_gpus_than_processes_are_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"busi_quick: processes = 4, of which each needs a GPU, but 2 can be used"):
        shares.refuse_fewer_gpus(STUDY.model_copy(update={"processes": 4}), 2)


@pytest.mark.parametrize("gpus", [0, 4, 5])
def test_as_many_gpus_as_processes_or_none_at_all_are_accepted(gpus):
    shares.refuse_fewer_gpus(STUDY.model_copy(update={"processes": 4}), gpus)


def test_a_study_of_one_training_has_all_cores_and_says_nothing():
    demo = params.read_study(files.study_file("demo"))
    assert shares.share(demo, 16, 0, on_processor=True) == shares.Share(1, 16, 0)
    assert shares.describe(demo, shares.Share(1, 16, 0)) == ""


def test_the_share_is_said():
    assert shares.describe(STUDY, shares.Share(4, 4, 1)) == (
        "5 trainings, at most 4 at once, if memory allows, each on 1 GPU of its own, each with 4 threads\n"
    )
    assert shares.describe(STUDY, shares.Share(1, 1, 0)) == "5 trainings, one after another, each with 1 thread\n"


def test_memory_is_above_what_trainings_needed():
    """Measured on a processor: `timing.json` of hc18_segnet_quick, and hc18_crossval in training."""
    for name, peak_mb in (("hc18_segnet_quick", 1044), ("hc18_crossval", 1235)):
        estimate = shares.memory_mb(params.read_study(files.study_file(name)), 0)
        assert peak_mb < estimate < 1.5 * peak_mb


def test_memory_grows_with_images_on_a_processor_and_with_loaders():
    assert shares.memory_mb(LARGE, 0) == 600 + 16 * 384 * 576 * 64 * 120 // 10**6 + 8 * 400
    assert shares.memory_mb(LARGE, 1) == 600 + 4000 + 8 * 400  # activations are in the memory of the GPU

import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from lib.study import files
from lib.training import tensorboard
from lib.training.state import TrainingState
from tests import builders, builders_tasks
from tests.builders import NETWORK, one_thread  # noqa: F401
from tests.builders_tasks import Stopped, of_network


def fit(folder, arrays=None, stop_after=None, network=NETWORK, **keys):
    keys = {"epochs": 4, "tensorboard_every": 2, "tensorboard_images": 2} | keys
    return builders_tasks.fit(folder, arrays or builders.discs(9), stop_after, network, **keys)[0]


def read(folder):
    """The TensorBoard events of a run."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def curve(events, name):
    return [(each.step, each.value) for each in events.Scalars(name)]


@pytest.fixture(autouse=True)
def first_event_files(monkeypatch):
    """Files of one second are read in the order of their names, which end in a counter: 10 would precede 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    return fit(folder), read(folder)


def test_every_column_of_the_history_is_a_curve_and_validation_images_are_logged(watched):
    run, events = watched
    columns = set(run.history.columns) - {"epoch", "best"}
    assert set(events.Tags()["scalars"]) == columns
    for name in columns:
        steps, values = zip(*curve(events, name))
        assert steps == (1, 2, 3, 4)
        assert values == pytest.approx(run.history[name].tolist(), rel=1e-6)  # float32
    assert events.Tags()["images"] == ["validation/disc6_0", "validation/disc8_0"]
    for name in events.Tags()["images"]:
        images = {(each.step, each.height, each.width) for each in events.Images(name)}
        assert images == {(1, 32, 32), (3, 32, 32)}


def test_a_resumed_run_has_each_epoch_once_even_one_that_was_logged_but_not_saved(tmp_path, watched, monkeypatch):
    real, on_disk = TrainingState.save, []

    def save(self, *arguments):
        if len(self.history) == 3:  # killed between TensorBoard and the state
            on_disk.extend(step for step, _ in curve(read(tmp_path), "train_loss"))
            raise Stopped
        real(self, *arguments)

    fit(tmp_path, stop_after=1)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", save)
        assert fit(tmp_path) is None
    assert on_disk == [1, 2, 3]  # flushed before the state is saved
    fit(tmp_path)
    events = read(tmp_path)
    for name in events.Tags()["scalars"]:
        assert curve(events, name) == curve(watched[1], name)
    for name in events.Tags()["images"]:
        assert [each.step for each in events.Images(name)] == [1, 3]


def test_a_new_training_discards_the_curves_of_the_previous_one(tmp_path):
    fit(tmp_path, epochs=3)
    fit(tmp_path, epochs=2, seed=1)
    assert [step for step, _ in curve(read(tmp_path), "train_loss")] == [1, 2]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_tensorboard_is_neither_imported_nor_written_unless_configured(tmp_path):
    with tensorboard.writer(None, tmp_path / "tensorboard", 1) as board:
        assert board is None
    assert not list(tmp_path.iterdir())
    code = "import sys; from lib.training import loop; print('torch.utils.tensorboard' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=files.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_slices_and_landmarks_are_logged(tmp_path):
    fit(tmp_path / "volumes", builders_tasks.volumes(3), network=of_network(in_channels=3), epochs=1)
    assert read(tmp_path / "volumes").Tags()["images"] == ["validation/patient2_2", "validation/patient2_4"]
    heads, network = builders_tasks.landmarked(6), of_network(out_channels=2)
    fit(tmp_path / "heads", heads, network=network, epochs=1, landmarks="multicentre")
    logged = read(tmp_path / "heads").Tags()
    assert (len(logged["images"]), "validation_error_percent" in logged["scalars"]) == (2, True)


def test_the_reference_is_drawn_green_the_prediction_red_and_both_yellow():
    image = np.full((3, 6), 90, np.uint8)
    reference, predicted = np.zeros((3, 6), np.uint8), np.zeros((3, 6), np.uint8)
    reference[1, 1:3], predicted[1, 2:4] = 1, 1
    drawn = tensorboard.overlay(image, reference, predicted)
    assert drawn[1].tolist() == [[90] * 3, [0, 255, 0], [255, 255, 0], [255, 0, 0], [90] * 3, [90] * 3]
    assert (drawn[[0, 2]] == 90).all()
    assert (image == 90).all()


def test_an_outline_is_the_boundary_of_each_class_and_closed_at_the_image_border():
    areas = np.zeros((7, 9), np.uint8)
    areas[1:6, 1:5], areas[1:6, 5:] = 1, 2
    expected = areas > 0
    expected[2:5, 2:4] = expected[2:5, 6:8] = False  # interior of each class; adjacent classes both have a boundary
    assert np.array_equal(tensorboard.outline(areas), expected)
    assert not tensorboard.outline(np.zeros((4, 5), np.uint8)).any()

"""A training shared by two processes gives what one process gives; here two forked processes on gloo."""

import os
import signal

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from lib.models import synchronised_batch_norm
from lib.study import files
from lib.training import loop, ranks
from tests import builders, builders_tasks
from tests.builders import NETWORK, one_thread  # noqa: F401
from tests.builders_tasks import HEATMAPS, LANDMARKS, contents, fit, of_network
from tests.training.test_interruption import limit_memory, raise_at

PLAIN = of_network(normalisation="none")
THREE = {"classes": ["background", "a", "b"], "label_smoothing": 0.05, "focal_weight": 0.5}
THREE |= {"cross_entropy_class_weights": [0.5, 1.0, 3.0], "dice_class_weights": [0.0, 1.0, 2.0]}
THREE |= {"selection_class_weights": [0.0, 1.0, 0.0]}
TWENTY = {"epochs": 5, "batch_size": 5, "gradient_clip": 0.5, "learning_rate": 0.001}  # 16 images: 5, 5, 5 and 1


def in_processes(folder, call, count=2):
    """Exit codes of forked processes that share a training; each calls a function with its rank."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    children = []
    for rank in range(count):
        child = os.fork()
        if not child:
            code = 1
            try:
                dist.init_process_group("gloo", f"file://{folder}/.store", rank=rank, world_size=count)
                call(rank)
                ranks.wait()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    (folder / ".store").unlink(missing_ok=True)
    return codes


def steps_of(folder, arrays, network, keys):
    """Loss of every step of a training, and its history; `folder` gets the files of the run."""
    values, real = [], loop.step

    def step(*given):
        loss, tally = real(*given)
        values.append(float(loss))
        return loss, tally

    loop.step = step
    try:
        run, _ = fit(folder, arrays, None, network, **keys)
    finally:
        loop.step = real
    return np.array(values), run.history.drop(columns="best").to_numpy(float)


def one_and_two(folder, arrays, network, keys):
    """`steps_of` a training in one process, and in two."""
    one = steps_of(folder / "one", arrays, network, keys)

    def train(rank):
        values, history = steps_of(folder / "two", arrays, network, keys)
        np.savez(folder / f"rank{rank}.npz", values=values, history=history)

    assert in_processes(folder, train) == [0, 0]
    first, second = (np.load(folder / f"rank{rank}.npz") for rank in (0, 1))
    assert np.array_equal(first["values"], second["values"])
    return one, (first["values"], first["history"])


def three_classes(count):
    arrays = builders.discs(count)
    arrays.masks[1::2][arrays.masks[1::2] == 1] = 2
    arrays.masks[::2, :4, :4] = 2
    return arrays


BLANK = {"starts_blank": True}  # a loss of about 1
KINDS = {
    "two classes, one cycle": (builders.discs(24), PLAIN, TWENTY | {"schedule": "one_cycle"}),
    "weighted classes": (three_classes(24), of_network(normalisation="none", out_channels=3), TWENTY | THREE),
    "landmarks": (
        builders_tasks.landmarked(24),
        of_network(normalisation="none", out_channels=2, base_channels=8) | BLANK,
        TWENTY | LANDMARKS | {"epochs": 5},
    ),
    "plateau": (builders.discs(24), PLAIN, TWENTY | {"schedule": "plateau"}),
}
NORMALISED = {
    "two classes": (builders.discs(24), NETWORK, TWENTY),
    "landmarks": (builders_tasks.landmarked(24), HEATMAPS | BLANK, TWENTY | LANDMARKS | {"epochs": 5}),
    "volumes": (builders_tasks.volumes(6, 4), of_network(in_channels=3), TWENTY | {"area_weight_floor": 0.1}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_steps_of_one_though_a_last_batch_leaves_one_of_them_no_image(tmp_path, kind):
    (one, history), (two, history_of_two) = one_and_two(tmp_path, *KINDS[kind])
    assert len(one) == len(two) == 20
    assert two == pytest.approx(one, abs=1e-5)
    assert history_of_two == pytest.approx(history, rel=1e-5, abs=1e-6)
    assert {each.name for each in (tmp_path / "one").iterdir()} == {each.name for each in (tmp_path / "two").iterdir()}
    records = [files.read_json(tmp_path / name / "run.json") for name in ("one", "two")]
    assert [record["processes"] for record in records] == [1, 2]
    assert records[0]["made_of"] == records[1]["made_of"]


@pytest.mark.parametrize("kind", NORMALISED)
def test_with_batch_normalisation_the_first_step_is_equal_and_rounding_grows_in_the_later_ones(tmp_path, kind):
    (one, _), (two, _) = one_and_two(tmp_path, *NORMALISED[kind])
    assert two[0] == pytest.approx(one[0], abs=1e-5)
    assert two == pytest.approx(one, abs=1e-3)  # statistics of each process alone differ by 0.1 and more


@pytest.mark.parametrize("split", [5, 3])
def test_synchronised_batch_normalisation_is_that_of_all_images_though_one_process_may_have_none(tmp_path, split):
    torch.manual_seed(0)
    images, slopes = 5 + 3 * torch.randn(5, 4, 6, 6), torch.randn(5, 4, 6, 6)
    whole = nn.BatchNorm2d(4)
    nn.init.uniform_(whole.weight)
    images.requires_grad_()
    expected = whole(images)
    expected.backward(slopes)

    def normalise(rank):
        model = nn.Sequential(nn.BatchNorm2d(4))
        model[0].weight.data.copy_(whole.weight)
        synchronised_batch_norm.synchronise(model)
        part = slice(0, split) if rank == 0 else slice(split, None)
        own = images.detach()[part].requires_grad_()
        output = model(own)
        output.backward(slopes[part])
        ranks.sum_gradients(model)
        torch.save(
            [output, own.grad, *(each.grad for each in model.parameters()), model[0].state_dict()], rank_file(rank)
        )

    rank_file = lambda rank: tmp_path / f"{rank}.pt"  # noqa: E731
    assert in_processes(tmp_path, normalise) == [0, 0]
    outputs, gradients, *shared = zip(*(torch.load(rank_file(rank)) for rank in (0, 1)))
    assert torch.cat(outputs).detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-5)
    assert torch.cat(gradients).numpy() == pytest.approx(images.grad.numpy(), abs=1e-5)
    for mine, other in zip(shared[:2], (whole.weight.grad, whole.bias.grad)):
        assert torch.equal(*mine)
        assert mine[0].numpy() == pytest.approx(other.numpy(), abs=1e-4)
    for name, value in whole.state_dict().items():
        assert torch.equal(*(each[name] for each in shared[2]))
        assert shared[2][0][name].numpy() == pytest.approx(value.numpy(), abs=1e-5)


def test_every_image_and_every_validation_batch_belongs_to_one_process(monkeypatch):
    monkeypatch.setattr(ranks, "count", lambda: 3)
    shares, turns = [], []
    for rank in range(3):
        monkeypatch.setattr(ranks, "index", lambda rank=rank: rank)
        shares.append([ranks.own_share(list(range(size))) for size in (7, 1)])
        turns.append([ranks.own_batches(np.arange(size), 4).tolist() for size in (15, 5)])
    assert shares == [[[0, 1], []], [[2, 3], []], [[4, 5, 6], [0]]]
    assert turns == [[[0, 1, 2, 3, 12, 13, 14], [0, 1, 2, 3]], [[4, 5, 6, 7], [4]], [[8, 9, 10, 11], []]]


def train(folder, **keys):
    """A training that saves when it is interrupted, in three epochs of four batches; its log lines."""
    lines, arrays = [], builders.discs(12)
    given = {"epochs": 3, "batch_size": 2, "learning_rate": 0.003, "processes": 2} | keys
    config = builders.training_params(**given)
    loop.fit(config, PLAIN, arrays, builders_tasks.parts_of(arrays), folder, lines.append)
    return lines


def interrupted(folder, batch, **keys):
    """Exit codes of two processes of which the second alone is told to end when it loads a batch, from 1."""

    def call(rank):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if rank == 1:
            raise_at(batch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        train(folder, **keys)

    return in_processes(folder, call)


def in_two(folder, **keys):
    """Log lines of a training shared by two processes, which ends."""

    def call(rank):
        lines = train(folder, **keys)
        if rank == 0:
            files.write_json(folder / ".lines.json", lines)

    assert in_processes(folder, call) == [0, 0]
    return files.read_json(folder / ".lines.json")


@pytest.mark.parametrize("batch", [2, 4, 6])
def test_processes_end_at_the_same_step_if_one_is_told_to_and_resume_to_the_bytes_of_an_unbroken_run(tmp_path, batch):
    in_two(tmp_path / "unbroken")
    assert 0 not in interrupted(tmp_path / "broken", batch)
    epoch, batches_done = divmod(batch, 4) if batch != 4 else (0, 4)
    assert in_two(tmp_path / "broken")[0] == f"resuming after epoch {epoch} and {batches_done} batches of the next"
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


def test_another_number_of_processes_sets_the_state_of_a_deterministic_run_aside_and_resumes_any_other(tmp_path):
    whole = tmp_path / "whole"
    train(whole, processes=1)
    interrupted(tmp_path / "same bytes", 6)
    line, *_ = train(tmp_path / "same bytes", processes=1)
    assert line.startswith("processes 2 -> 1: moved the unfinished run of 1 epoch to ")
    assert contents(tmp_path / "same bytes") == contents(whole)

    interrupted(tmp_path / "any", 6, deterministic=False)
    assert train(tmp_path / "any", processes=1, deterministic=False)[0] == (
        "resuming after epoch 1 and 2 batches of the next"
    )
    histories = [files.read_csv(folder / "history.csv", ["epoch"]) for folder in (whole, tmp_path / "any")]
    one, other = (history.drop(columns="best").to_numpy(float) for history in histories)
    assert other == pytest.approx(one, rel=1e-4)


def test_a_finished_run_is_loaded_by_any_number_of_processes(tmp_path):
    train(tmp_path, processes=1)
    before = contents(tmp_path)
    (line,) = in_two(tmp_path)
    assert line.startswith("already trained")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("network", [PLAIN, NETWORK])
def test_a_process_without_memory_computes_its_share_in_portions_or_is_refused_with_batch_normalisation(
    tmp_path, monkeypatch, network
):
    keys = {"batch_size": 8, "deterministic": False, "epochs": 2}
    fit(tmp_path / "whole", network=network, **keys)

    def call(rank):
        if rank == 1:
            limit_memory(monkeypatch, 3)
        try:
            _, lines = fit(tmp_path / "two", network=network, **keys)
            files.write_json(tmp_path / f"lines{rank}.json", lines)
        except ValueError as error:
            files.write_json(tmp_path / "refused.json", str(error))
            os._exit(3)

    codes = in_processes(tmp_path / "two", call)
    if network is NETWORK:
        assert codes[1] == 3
        assert files.read_json(tmp_path / "refused.json").startswith(
            "cpu: too little memory for a process's 4 images of a batch; set a smaller batch_size or more processes"
        )
        return
    assert codes == [0, 0]
    assert files.read_json(tmp_path / "two" / "run.json")["portion"] == 2
    assert "processed in portions of 2" in files.read_json(tmp_path / "lines0.json")[0]
    tables = [files.read_csv(tmp_path / name / "history.csv", ["epoch"]) for name in ("whole", "two")]
    one, other = (table.drop(columns="best").to_numpy(float) for table in tables)
    assert other == pytest.approx(one, rel=1e-4)


def test_loader_processes_and_their_number_do_not_change_a_shared_training(tmp_path):
    for workers in (0, 2):
        in_two(tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "0") == contents(tmp_path / "2")

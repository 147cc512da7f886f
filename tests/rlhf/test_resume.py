"""Facts about going on: a trainer stopped anywhere, within a rollout too, ends with the bits of one never stopped."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tiny_rl
import tiny_run

from tinyllm.nn import add_lora
from tinyllm.rlhf.sequences import Sequences
from tinyllm.training import Stopped, TrainState, latest_checkpoint, make_optimizer, open_run, save_checkpoint, train
from tinyllm.training.resume import restore_checkpoint

N_STEPS, ACCUMULATION = 7, 2
ADAPTIVE = {"kl_coefficient": 0.2, "kl_target": 0.5, "kl_horizon": 50}
CASES = {
    "ppo": ("ppo", {"minibatch_size": 3, "epochs": 2, **ADAPTIVE}),  # 6 minibatches a rollout: three steps
    "ppo that may stop early": ("ppo", {"minibatch_size": 3, "epochs": 3, "stop_kl": 0.002, **ADAPTIVE}),
    "shared ppo": ("shared ppo", {"minibatch_size": 4, "epochs": 3, **ADAPTIVE}),
    "grpo": ("grpo", {"minibatch_size": 3, "kl_coefficient": 0.05}),  # 3 minibatches: every other step needs two rollouts
    "lora": ("grpo", {"minibatch_size": 4, "epochs": 2}),
    "rloo": ("rloo", {"kl_coefficient": 0.1}),  # a rollout a minibatch
    "reinforce": ("reinforce", {}),
}


def run_in(folder, case, *, signal_at=(), resume=False, number=signal.SIGTERM, inside="loss"):
    """Trains a case in `folder`; the process gets a signal at these calls of the loss (or of the reward function)."""
    kind, changes = CASES[case]
    calls = []

    def stop_if_due():
        calls.append(None)
        if len(calls) in signal_at:
            signal.raise_signal(number)

    def reward(samples):
        if inside == "reward":
            stop_if_due()
        return tiny_rl.count_fives(samples)

    policy = tiny_rl.make_policy()
    if case == "lora":
        policy = add_lora(policy, rank=2, alpha=4.0, targets=("qkv", "up"), rng=tiny_rl.np.random.default_rng(8))
    model, trainer = tiny_rl.make(kind, policy=policy, reward=reward, **changes)

    def loss_fn(model, batch, *, n_counted):
        if inside == "loss":
            stop_if_due()
        return trainer.loss(model, batch, n_counted=n_counted)

    config = tiny_rl.train_config(N_STEPS, learning_rate=0.03, gradient_accumulation=ACCUMULATION)
    with open_run(folder, settings={"training": config, "algorithm": vars(trainer.config)}, resume=resume) as run:
        list(train(model, trainer, config=config, loss_fn=loss_fn, measure=trainer.measure, run=run))
    return trainer


def end_of(folder):
    """Bits of weights and moments, the trainer's state, and the log without what measures the machine."""
    state = json.loads((latest_checkpoint(folder / "checkpoints") / "state.json").read_text())
    return tiny_run.final_bytes(folder), state["source"], tiny_run.final_log(folder)


@pytest.fixture(scope="module")
def place():
    """A folder in memory where there is one: many checkpoints are written here."""
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("case", CASES)
def test_stopped_at_any_micro_batch_it_ends_with_the_same_bits(case, place):
    whole = place / case / "whole"
    n_rollouts = run_in(whole, case).n_rollouts
    expected, names = end_of(whole), set()
    assert n_rollouts > 1
    for call in range(1, N_STEPS * ACCUMULATION + 1):
        folder = place / case / str(call)
        with pytest.raises(Stopped) as caught:
            run_in(folder, case, signal_at=(call,))
        assert caught.value.code == 143
        names.add(caught.value.checkpoint.name)
        run_in(folder, case, resume=True)
        for wanted, got in zip(expected, end_of(folder), strict=True):
            assert got == wanted, call
    assert len(names) == N_STEPS * ACCUMULATION and sum("micro" in name for name in names) == N_STEPS


def test_stopped_again_and_again_it_ends_with_the_same_bits(place):
    run_in(place / "often" / "whole", "ppo")
    stops = 0
    while True:
        try:
            run_in(place / "often" / "stopped", "ppo", signal_at=(1,), resume=True)
            break
        except Stopped:
            stops += 1
            assert stops < 50
    assert stops == N_STEPS * ACCUMULATION and end_of(place / "often" / "stopped") == end_of(place / "often" / "whole")


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_signal_during_a_rollout_saves_and_resumes(call, place):
    whole, folder = place / "rollout" / "whole", place / "rollout" / str(call)
    if not whole.exists():
        run_in(whole, "grpo", inside="reward")
    with pytest.raises(Stopped) as caught:
        run_in(folder, "grpo", signal_at=(call,), inside="reward", number=signal.SIGINT)
    assert caught.value.code == 130 and caught.value.checkpoint.is_dir()
    run_in(folder, "grpo", resume=True)
    assert end_of(folder) == end_of(whole)


def test_a_process_that_gets_sigterm_saves_and_another_goes_on(tmp_path):
    """The same through the operating system: a program of its own, a real signal while it samples."""
    program = (
        "import sys, time, tiny_rl, test_resume\n"
        "def slow(samples):\n"
        "    print('sampled', flush=True)\n"
        "    time.sleep(0.2)\n"
        "    return tiny_rl.count_fives_at_once(samples)\n"
        "tiny_rl.count_fives_at_once, tiny_rl.count_fives = tiny_rl.count_fives, slow\n"
        "test_resume.run_in(test_resume.Path(sys.argv[1]), 'ppo')\n"
    )
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here.parents[1], here, here.parent / "training")))
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "run")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert process.stdout.readline() == "sampled\n" and process.stdout.readline() == "sampled\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert latest_checkpoint(tmp_path / "run" / "checkpoints") is not None
    run_in(tmp_path / "run", "ppo", resume=True)
    run_in(tmp_path / "whole", "ppo")
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")


def test_other_settings_of_the_algorithm_are_refused(place):
    with pytest.raises(Stopped):
        run_in(place / "changed", "grpo", signal_at=(3,))
    kind, changes = CASES["grpo"]
    CASES["changed"] = (kind, {**changes, "clip_low": 0.1})
    with pytest.raises(ValueError, match="algorithm.clip_low was 0.2 in .* is 0.1 now"):
        run_in(place / "changed", "changed", resume=True)
    del CASES["changed"]


def test_answers_of_any_length_that_are_not_yet_learned_from_are_saved_as_arrays(place):
    """1,024 answers of 768 tokens: as text they were 146 MB, which was written, and refused when it was read."""
    model, trainer = tiny_rl.make("ppo")
    rng = tiny_rl.np.random.default_rng(0)
    names = ("old_log_probs", "weights", "ref_log_probs", "advantages", "values", "returns")
    trainer._arrays = {name: rng.standard_normal((1024, 768)).astype("f") for name in names}
    trainer._sequences = Sequences(rng.integers(0, 11, (1024, 800)), rng.random((1024, 800)) < 0.9, 32)
    trainer._minibatches = [list(range(512)), list(range(512, 1024))]
    state = TrainState(model, make_optimizer(model, tiny_rl.train_config(1)), trainer)
    checkpoint = save_checkpoint(place / "large", state, settings={})
    assert (checkpoint / "state.json").stat().st_size < 100_000
    _, other = tiny_rl.make("ppo")
    restore_checkpoint(checkpoint, dataclasses.replace(state, source=other), settings={}, tokenizer_sha256=None)
    for wanted, got in ((trainer.next_batch(), other.next_batch()) for _ in range(2)):
        assert got.tokens.tobytes() == wanted.tokens.tobytes() and got.arrays.keys() == {*names}
        assert all(got.arrays[name].tobytes() == wanted.arrays[name].tobytes() for name in names)

"""Going on where a run stopped, exactly: the same bits as if it had never stopped.

Everything that decides the next number comes back: weights, moments, half-summed gradients, the position in the data,
every random generator, what was told of the step so far. Stopped in the middle of accumulating gradients, a run goes back to
the data position at which that step began, draws the same micro-batches again, and skips those already summed.
Other settings or another tokenizer would be another run, so they are refused by name; another machine is only warned of.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyllm.storage import FormatError, safetensors
from tinyllm.training.checkpoint import TrainState, join_arrays, load_weights, read_state
from tinyllm.training.environment import environment_differences

MAY_CHANGE = frozenset({"training.keep_last", "training.checkpoint_interval"})  # no influence on any weight
LENGTH = "training.max_steps"


def restore_checkpoint(checkpoint: Path, state: TrainState, *, settings: Mapping[str, Any], tokenizer_sha256: str | None) -> None:
    """Puts everything in a verified `checkpoint` back into `state`, whose objects were made with the same settings.

    ValueError names the setting that differs, FormatError the file that does not fit. A different environment warns.
    """
    content = read_state(checkpoint)
    refuse_changes(content["settings"], settings, where=checkpoint)
    refuse_tokenizer(content["tokenizer_sha256"], tokenizer_sha256, where=checkpoint)
    if differences := environment_differences(content["environment"]):
        text = f"resuming {checkpoint} in another environment, so not exact to the bit: {'; '.join(differences)}"
        warnings.warn(text, stacklevel=2)
    state.model.load_state_dict(load_weights(checkpoint / "model", state.model))
    state.optimizer.load_state_dict(safetensors.load(checkpoint / "optimizer.safetensors"))
    _restore_gradients(checkpoint, state, content["micro_step"])
    _restore_generators(checkpoint, state, content["random"])
    _restore_source(checkpoint, state, content["source"])
    state.metrics.restore(content.get("metrics", {}))
    for name in ("step", "micro_step", "step_loss", "tokens_seen", "val_loss", "best_val_loss"):
        setattr(state, name, content[name])


def _restore_gradients(checkpoint: Path, state: TrainState, micro_step: int) -> None:
    """The partial sum if the run was stopped between micro-batches, else none."""
    state.model.zero_grad()
    if not micro_step:
        return
    file = checkpoint / "gradients.safetensors"
    gradients, parameters = safetensors.load(file), dict(state.model.named_parameters())
    for name, gradient in gradients.items():
        if name not in parameters or gradient.shape != parameters[name].shape:
            raise FormatError(file, field=name, expected="the name and shape of a weight", found=str(gradient.shape))
        parameters[name].grad = gradient.copy()


def _restore_source(checkpoint: Path, state: TrainState, saved: dict[str, Any]) -> None:
    """The position in the data; the source itself says when it was another source (ValueError)."""
    file = checkpoint / "source.safetensors"
    try:
        state.source.restore(join_arrays(saved, safetensors.load(file)) if file.exists() else saved)
    except (TypeError, KeyError, OverflowError) as error:
        file, expected = checkpoint / "state.json", f"a state of {type(state.source).__name__}"
        raise FormatError(file, field="source", expected=expected, found=str(error)) from None


def _restore_generators(checkpoint: Path, state: TrainState, saved: Mapping[str, Any]) -> None:
    """Every random generator inside the model."""
    generators = state.generators
    if generators.keys() != saved.keys():
        expected = ", ".join(generators) or "none"
        raise FormatError(checkpoint / "state.json", field="random", expected=expected, found=", ".join(saved) or "none")
    for path, rng in generators.items():
        try:
            rng.bit_generator.state = saved[path]
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            expected = f"a state of {type(rng.bit_generator).__name__}"
            file = checkpoint / "state.json"
            raise FormatError(file, field=f"random.{path}", expected=expected, found=str(error)) from None


def refuse_changes(saved: Mapping[str, Any], ours: Mapping[str, Any], *, where: Path) -> None:
    """ValueError naming the first setting in which a run on the disk differs from the one that wants to go on with it.

    A run may be made longer: what it has done stays, and from there on it follows the longer schedule.
    """
    before, now = _flat(saved), _flat(ours)
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key, "absent"), now.get(key, "absent")
        if old == new or key in MAY_CHANGE or (key == LENGTH and _is_longer(old, new)):
            continue
        advice = "it can be made longer, not shorter" if key == LENGTH else "resume with the same settings"
        raise ValueError(f"{key} was {old!r} in {where}, but is {new!r} now; {advice}, or start a new run in another folder")


def _is_longer(old: Any, new: Any) -> bool:
    """Whether a number of steps grew."""
    return isinstance(old, int) and isinstance(new, int) and new > old


def refuse_tokenizer(saved: str | None, ours: str | None, *, where: Path) -> None:
    """ValueError unless both tokenizers have the same fingerprint: other ids would mean other words."""
    if saved != ours:
        old, new = (text[:12] + "..." if text else "absent" for text in (saved, ours))
        raise ValueError(
            f"tokenizer: {where} was made with the one of sha256 {old}, but {new} came; resume with the run's own tokenizer"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat

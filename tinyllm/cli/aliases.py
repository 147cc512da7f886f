"""The names of nanoGPT's and Hugging Face's flags that people have in their fingers, as other spellings of ours.

    --n_layer=6 --max_iters 2000 --lr 1e-3     is read as     --n-layers=6 --max-steps 2000 --learning-rate 1e-3

Only what means exactly the same is here, with the same value behind it: a number of epochs, say, is no number of steps. A verb
understands those aliases whose target it has. Options are also understood with underscores for dashes.
"""

from collections.abc import Collection, Iterable

ALIASES = {  # another name -> ours
    # the model's shape
    "--n-layer": "--n-layers",
    "--num-layers": "--n-layers",
    "--num-hidden-layers": "--n-layers",
    "--n-head": "--n-heads",
    "--num-attention-heads": "--n-heads",
    "--n-embd": "--d-model",
    "--hidden-size": "--d-model",
    "--n-positions": "--block-size",
    "--context-length": "--block-size",
    # training
    "--lr": "--learning-rate",
    "--min-lr": "--min-learning-rate",
    "--max-iters": "--max-steps",
    "--warmup-iters": "--warmup-steps",
    "--per-device-train-batch-size": "--batch-size",
    "--gradient-accumulation-steps": "--gradient-accumulation",
    "--adam-beta1": "--beta1",
    "--adam-beta2": "--beta2",
    "--adam-epsilon": "--epsilon",
    "--max-grad-norm": "--grad-clip",
    "--eval-iters": "--eval-batches",
    "--eval-steps": "--eval-interval",
    "--save-steps": "--checkpoint-interval",
    "--out-dir": "--out",
    "--output-dir": "--out",
    # tuning
    "--lora-r": "--lora-rank",
    "--num-generations": "--group-size",
    "--num-ppo-epochs": "--epochs",
    "--kl-coef": "--kl-coefficient",
    # generating
    "--num-beams": "--beams",
    "--num-return-sequences": "--num-samples",
    "--n-samples": "--num-samples",
}
FAR = {  # what means something else here, and what to give instead
    "--num-train-epochs": "training is counted in steps: give --max-steps",
    "--epochs": "training is counted in steps: give --max-steps",
    "--device": "everything runs on the processor; --threads says on how many cores",
    "--dtype": "training is in float32",
    "--compile": "the kernels are compiled at their first use, or by tinyllm warmup",
    "--model-name-or-path": "give the model's folder as the first argument, or to train with --init-from",
    "--train-file": "give the files as arguments",
    "--dataset": "give the files as arguments",
    "--dataset-name": "give the files as arguments",
    "--resume-from-checkpoint": "--resume goes on from the newest checkpoint in --out",
}


def translate(words: Iterable[str], known: Collection[str]) -> list[str]:
    """The words of a command line with aliases replaced by the options they stand for; `known`: the options there are."""
    return [_translate(word, known) for word in words]


def _translate(word: str, known: Collection[str]) -> str:
    name, equals, value = word.partition("=")
    if not name.startswith("--") or name in known:
        return word
    dashed = name.replace("_", "-")
    ours = dashed if dashed in known else ALIASES.get(dashed, "")
    return ours + equals + value if ours in known else word


def aliases_of(known: Collection[str]) -> list[str]:
    """The aliases that a verb with the options `known` understands."""
    return [alias for alias, ours in ALIASES.items() if ours in known and alias not in known]


def advice(option: str) -> str | None:
    """What to give instead of an option of theirs that has no exact counterpart here; None if nothing is known of it."""
    return FAR.get(option.replace("_", "-"))

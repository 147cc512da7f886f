"""A policy of a thousand weights, prompts, a toy reward, and a trainer of each kind on them: for the tests of rlhf."""

import copy

import numpy as np

from tinyllm.models import GPT, GPTConfig
from tinyllm.models.heads import ScalarHead, ValueModel
from tinyllm.rlhf.actor_critic import ActorCritic
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.rlhf.ppo import PPO, PPOConfig
from tinyllm.rlhf.reinforce import RLOO, Reinforce, ReinforceConfig
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.training import TrainConfig, train

MODEL = GPTConfig(vocab_size=11, block_size=16, n_layers=2, n_heads=2, d_model=8, init_std=0.2)
STOP = 1
PROMPTS = [[2, 3], [4], [5, 6, 7, 8], [9, 10, 2], [3, 3, 3]]
SIZES = {"n_prompts": 4, "max_new_tokens": 6}
KINDS = ("ppo", "shared ppo", "grpo", "rloo", "reinforce")


def make_policy(seed=0, **changes):
    """A GPT with weights large enough that it has opinions."""
    return GPT(GPTConfig(**{**vars(MODEL), **changes}), rng=np.random.default_rng(seed))


def in_float64(model):
    """The model, its weights as float64."""
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    return model


def make_sequences(seed=0, n=6, *, n_vocab=11):
    """Prompts of 1 to 4 tokens and answers of 1 to 5, padded together; also the lists."""
    rng = np.random.default_rng(seed)
    prompts, responses = ([rng.integers(0, n_vocab, rng.integers(1, most + 1)).tolist() for _ in range(n)] for most in (4, 5))
    return pad_sequences(prompts, responses), prompts, responses


def count_fives(samples):
    """The toy reward: the share of 5 among the answer's tokens. Few weights can learn it in few steps."""
    return [sample.response.count(5) / len(sample.response) for sample in samples]


def make(kind, *, seed=0, reward=count_fives, policy=None, prompts=PROMPTS, reference=True, **changes):
    """(the model to train, the trainer) of a kind; the reference is a copy of the policy as it begins."""
    policy = policy or make_policy(seed)
    frozen = copy.deepcopy(policy) if reference else None
    settings = {"stop_id": STOP, "rng": np.random.default_rng(seed + 1), "reference": frozen}
    if kind in ("ppo", "shared ppo"):
        critic = ValueModel(make_policy(seed + 2)) if kind == "ppo" else ScalarHead(policy.config.d_model, zero=True, rng=None)
        model = ActorCritic(policy, critic)
        config = PPOConfig(**{**SIZES, "group_size": 2, "minibatch_size": 4, "epochs": 2, **changes})
        return model, PPO(model, prompts, reward, config=config, **settings)
    if kind == "grpo":
        config = GRPOConfig(**{**SIZES, "group_size": 2, "minibatch_size": 4, **changes})
        return policy, GRPO(policy, prompts, reward, config=config, **settings)
    config = ReinforceConfig(**{**SIZES, "group_size": 2, "minibatch_size": 8, **changes})
    return policy, {"rloo": RLOO, "reinforce": Reinforce}[kind](policy, prompts, reward, config=config, **settings)


def run(kind, *, max_steps, learning_rate=0.01, gradient_accumulation=1, run_folder=None, **changes):
    """Trains; returns (model, trainer, records)."""
    model, trainer = make(kind, **changes)
    config = train_config(max_steps, learning_rate=learning_rate, gradient_accumulation=gradient_accumulation)
    records = list(train(model, trainer, config=config, loss_fn=trainer.loss, measure=trainer.measure, run=run_folder))
    return model, trainer, records


def train_config(max_steps, **changes):
    """Adam's settings of PPO, a constant learning rate."""
    settings = {"learning_rate": 0.01, "warmup_steps": 0, "weight_decay": 0.0, "beta2": 0.95, "eval_interval": 0}
    settings |= {"checkpoint_interval": 0, **changes}
    return TrainConfig(max_steps=max_steps, min_learning_rate=settings["learning_rate"], **settings)

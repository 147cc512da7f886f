"""PPO: the last step of InstructGPT. A model writes, a reward model scores, and the model writes better; or learns to cheat.

Demonstrations, labels and reward model are those of example 09. Then 64 summaries at a time are sampled and scored, and PPO
makes what scored above expectation likelier. Three columns tell the story: `score`, what the reward model thinks (it must rise,
it is what is trained on); `gold`, what the simulated labeler truly thinks (it rises as long as the reward model is right); `kl`,
how far the model has gone from where it began. With `--kl-coefficient 0 --steps 160` nothing holds the model: the score goes on
rising, while the gold rises first and then falls below where it began: over-optimisation (Gao et al. 2023). A report
with all curves is written to `out`.

Read next: tinyllm/rlhf/ppo.py, tinyllm/rlhf/policy_gradient.py, tinyllm/rlhf/actor_critic.py.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import lesson
import numpy as np
from news_task import gold_rewards, label, normalise_reward_model, sft_news_model, train_reward_model

from tinyllm.data import Story, story_prompt
from tinyllm.data.tasks.gold import gold_reward
from tinyllm.data.tasks.news import make_stories
from tinyllm.models import GPT
from tinyllm.models.heads import RewardModel, ScalarHead, ValueModel
from tinyllm.recipes.label import MAX_NEW_TOKENS, sample_answers
from tinyllm.report.chart import Line, Plot, picture
from tinyllm.report.rl import write_rl_report
from tinyllm.rlhf.actor_critic import ActorCritic
from tinyllm.rlhf.ppo import PPO, PPOConfig
from tinyllm.rlhf.reward_model import score_sequences
from tinyllm.rlhf.rollout import Sample
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.storage.out_folder import free_folder
from tinyllm.tokenizers import BPETokenizer
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import TrainConfig, open_run, train

NOISE = 0.5  # of the labeler
Curves = dict[str, list[float]]  # measurement -> its values, one a rollout


def reward_model_for(sft: GPT, tokenizer: BPETokenizer, *, n_stories: int, seed: int) -> RewardModel:
    """Example 09 without its measurements."""
    stories = make_stories(n_stories, split="train", seed=seed + 10)
    answers = sample_answers(sft, tokenizer, stories, k=5, rng=np.random.default_rng(seed + 10))
    preferences = label(stories, answers, noise=NOISE, seed=seed)
    reward_model = train_reward_model(sft, tokenizer, preferences, seed=seed)
    normalise_reward_model(reward_model, sft, tokenizer, seed=seed)
    return reward_model


def improve(
    sft: GPT,
    reward_model: RewardModel,
    tokenizer: BPETokenizer,
    *,
    stories: list[Story],
    steps: int,
    seed: int,
    out: Path,
    **settings: Any,
) -> tuple[GPT, Curves]:
    """PPO on a copy of the SFT model; `settings` are PPOConfig's. Also what was measured at each rollout."""
    chat = ChatFormat(tokenizer)
    prompts = [chat.prompt(story_prompt(story)) for story in stories]

    def reward(samples: list[Sample]) -> np.ndarray:
        return score_sequences(reward_model, pad_sequences([s.prompt for s in samples], [s.response for s in samples]))

    def measure() -> dict[str, float]:  # the log also gets the truth, which PPO never sees
        metrics = ppo.measure()
        if "score" in metrics and ppo.rollout:
            golds = [gold_reward(stories[s.prompt_index], chat.parse(s.response)["content"]) for s in ppo.rollout.samples]
            metrics["gold"] = float(np.mean(golds))
        return metrics

    policy = copy.deepcopy(sft)
    shared = settings.pop("shared_critic", False)
    critic = ScalarHead(policy.config.d_model, zero=True, rng=None) if shared else ValueModel(copy.deepcopy(reward_model.trunk))
    model = ActorCritic(policy, critic)
    config = PPOConfig(**{"max_new_tokens": MAX_NEW_TOKENS, "epochs": 2, **settings})
    rng = np.random.default_rng(seed + 40)
    ppo = PPO(model, prompts, reward, config=config, stop_id=chat.end_id, rng=rng, reference=sft)
    pace = {"learning_rate": 3e-4, "min_learning_rate": 3e-5, "warmup_steps": 4, "weight_decay": 0.0, "epsilon": 1e-5}
    training = TrainConfig(max_steps=steps, seed=seed, eval_interval=0, checkpoint_interval=0, **pace)
    curves: Curves = {"score": [], "gold": [], "kl": []}
    print("rollout  score   gold     kl  length  entropy  clipped  explained")
    with open_run(out, settings={"training": training, "ppo": config}, tokenizer=tokenizer) as run:
        for record in train(model, ppo, config=training, loss_fn=ppo.loss, measure=measure, run=run):
            facts = record.metrics
            if "score" in facts:
                for name in curves:
                    curves[name].append(facts[name])
            if "score" in facts and (facts["rollout"] - 1) % max(1, steps // 40) == 0:
                print(f"{facts['rollout']:7.0f}  {facts['score']:5.2f}  {facts['gold']:5.2f}  {facts['kl']:5.2f}  "
                      f"{facts['length']:6.1f}  {facts['entropy']:7.3f}  {facts['clip_fraction']:7.3f}  "
                      f"{facts['explained_variance']:9.2f}", flush=True)  # fmt: skip
    policy.eval()
    return policy, curves


def draw(curves: Curves) -> str:
    """Score and truth by rollout, and both against the distance from where the model began."""
    rollouts, distance = range(1, len(curves["kl"]) + 1), [max(kl, 0.0) ** 0.5 for kl in curves["kl"]]
    order = np.argsort(distance, kind="stable")
    far = [distance[i] for i in order]
    return picture([
        Plot("by rollout (64 summaries each)", "rollout", [
            Line("score: what the reward model thinks", rollouts, curves["score"]),
            Line("gold: what is true", rollouts, curves["gold"], colour=1)]),
        Plot("by distance from the model that it began as", "√KL (√nats)", [
            Line("score", far, [curves["score"][i] for i in order], dots=2.5, joined=False),
            Line("gold", far, [curves["gold"][i] for i in order], colour=1, dots=2.5, joined=False)]),
    ], title="PPO: better, or only better liked?")  # fmt: skip


def main(
    steps: int = 40, seed: int = 0, *, sft_steps: int = 600, n_stories: int = 400, n_test: int = 150,
    kl_coefficient: float = 0.05, shared_critic: bool = False, out: str = "runs/11_ppo", figure: str | None = None,
    **settings: Any,
) -> dict[str, float]:  # fmt: skip
    """SFT, reward model, PPO (four steps a rollout); gold rewards on unseen stories before and after."""
    start = time.perf_counter()
    sft, tokenizer = sft_news_model(steps=sft_steps, seed=seed)
    print(f"{sft_steps} steps on demonstrations: {time.perf_counter() - start:.0f} s", flush=True)
    reward_model = reward_model_for(sft, tokenizer, n_stories=n_stories, seed=seed)
    print(f"{n_stories} stories labeled, reward model trained: {time.perf_counter() - start:.0f} s")
    stories = make_stories(2000, split="train", seed=seed + 20)
    folder = free_folder(Path(out))
    settings |= {"kl_coefficient": kl_coefficient, "shared_critic": shared_critic}
    policy, curves = improve(sft, reward_model, tokenizer, stories=stories, steps=steps, seed=seed, out=folder, **settings)
    test = make_stories(n_test, split="test", seed=seed + 30)
    answers = [sample_answers(model, tokenizer, test, k=1, rng=np.random.default_rng(seed + 30)) for model in (sft, policy)]
    before, after = (gold_rewards(test, texts)[:, 0] for texts in answers)
    for one, other in list(zip(*answers, strict=True))[:3]:
        print(f"  before: {one[0]}\n  after:  {other[0]}")
    gain, deviation = float(after.mean() - before.mean()), float(before.std())
    error = float(np.hypot(before.std(), after.std()) / np.sqrt(n_test))
    print(f"gold reward on {n_test} unseen stories: {before.mean():.2f} -> {after.mean():.2f}, "
          f"a gain of {gain:.2f} ± {error:.2f}, {gain / deviation:.2f} standard deviations of the SFT model's")  # fmt: skip
    print(f"the report is {write_rl_report(folder)}; {time.perf_counter() - start:.0f} s in all")
    lesson.save_figure(draw(curves), figure)
    return {"before": float(before.mean()), "after": float(after.mean()), "deviation": deviation, "gain": gain, "error": error,
            "first kl": curves["kl"][0], "kl": curves["kl"][-1], "scores": curves["score"]}  # fmt: skip


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={
            "steps": "steps of PPO, four a rollout",
            "seed": "of everything",
            "sft_steps": "steps on demonstrations",
            "n_stories": "stories whose five answers are labeled",
            "n_test": "unseen stories to be judged by",
            "kl_coefficient": "price of a nat of distance from the SFT model",
            "shared_critic": "one trunk for policy and value model",
            "out": "folder of the run and its report; a number is added to its name if it is there",
        },
        full={"steps": 160, "sft_steps": 1000, "n_stories": 1200, "n_test": 200},
        full_time="a minute and a half",
        tries=[
            (
                "--kl-coefficient 0 --steps 160 --out runs/11_ppo_free",
                "nothing holds the model: the score rises to 2.9 all the while, the truth rises to 1.8 in nine rollouts "
                "and falls to -1.6; on unseen stories it ends at -1.44, far below where it began (0.89): "
                "docs/figures/11_ppo_overoptimised.svg",
            ),
            (
                "--kl-coefficient 1 --out runs/11_ppo_tight",
                "a gain of 0.49 ± 0.11 instead of 1.10, at a KL of 0.4 nats instead of 1.2: distance is too dear to learn much",
            ),
            (
                "--n-stories 20 --out runs/11_ppo_few",
                "a reward model of 20 stories: a loss of 0.39 ± 0.12 instead of a gain of 1.10; the score rises, and the "
                "truth falls",
            ),
        ],
    )

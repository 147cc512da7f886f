"""Learning from preferences: from pairs of answers to a policy that is rated higher. In the order in which to read:

rewards     comparisons.py (pairs as ids), reward_model.py (Bradley-Terry), reward_function.py (one of your own),
            best_of_n.py, dpo.py (without a reward model)
policies    sequences.py, log_probs.py, kl.py, advantages.py, rollout.py, policy_gradient.py (the skeleton), then
            reinforce.py, grpo.py, ppo.py with actor_critic.py: what is left of each is its mathematics

Where the pairs come from is in `labels/`, how a run is looked at in `report/`.
"""

from tinyllm.rlhf.actor_critic import ActorCritic
from tinyllm.rlhf.best_of_n import best_of_n
from tinyllm.rlhf.comparisons import ComparedAnswers, encode_preferences
from tinyllm.rlhf.dpo import DPO, PreferencePairs
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.rlhf.log_probs import WithoutAdapters, response_log_probs, sequence_log_probs
from tinyllm.rlhf.policy_gradient import PolicyGradient
from tinyllm.rlhf.ppo import PPO, PPOConfig
from tinyllm.rlhf.reinforce import RLOO, Reinforce, ReinforceConfig
from tinyllm.rlhf.reward_model import PreferenceGroups, preference_loss, score_sequences
from tinyllm.rlhf.rollout import RolloutConfig, Sample
from tinyllm.rlhf.sequences import Sequences, pad_sequences

__all__ = [
    "ActorCritic", "ComparedAnswers", "DPO", "GRPO", "GRPOConfig", "PPO", "PPOConfig", "PolicyGradient", "PreferenceGroups",
    "PreferencePairs", "RLOO", "Reinforce", "ReinforceConfig", "RolloutConfig", "Sample", "Sequences", "WithoutAdapters",
    "best_of_n", "encode_preferences", "pad_sequences", "preference_loss", "response_log_probs", "score_sequences",
    "sequence_log_probs",
]  # fmt: skip

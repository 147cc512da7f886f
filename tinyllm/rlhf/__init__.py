"""Learning from preferences: from a person's ratings to a policy that is rated higher. In the order in which to read:

labels      label_items.py, labels.py (on the disk), label_pairs.py (ratings to pairs), agreement.py (Cohen's kappa)
            simulated_labeler.py, gold.py, news_items.py: a labeler whose taste is known
rewards     comparisons.py (pairs as ids), reward_model.py (Bradley-Terry), best_of_n.py, dpo.py (without a reward model)
policies    sequences.py, log_probs.py, kl.py, advantages.py, rollout.py, policy_gradient.py (the skeleton), then
            reinforce.py, grpo.py, ppo.py with actor_critic.py: what is left of each is its mathematics
seeing      report.py, curves.py, diagnosis.py, before_after.py
examples    news_task.py: the task that examples 09 to 11 share
"""

from tinyllm.rlhf.actor_critic import ActorCritic
from tinyllm.rlhf.agreement import Agreement, agreement_between, cohen_kappa, labelers, self_agreement
from tinyllm.rlhf.best_of_n import best_of_n
from tinyllm.rlhf.comparisons import ComparedAnswers, encode_preferences
from tinyllm.rlhf.dpo import DPO, PreferencePairs
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.rlhf.label_items import Item, read_items, write_items
from tinyllm.rlhf.label_pairs import pairs_from_labels
from tinyllm.rlhf.labels import Label, LabelFile, LabelStore, read_labels
from tinyllm.rlhf.log_probs import WithoutAdapters, response_log_probs, sequence_log_probs
from tinyllm.rlhf.policy_gradient import PolicyGradient
from tinyllm.rlhf.ppo import PPO, PPOConfig
from tinyllm.rlhf.reinforce import RLOO, Reinforce, ReinforceConfig
from tinyllm.rlhf.reward_model import PreferenceGroups, preference_loss, score_sequences
from tinyllm.rlhf.rollout import RolloutConfig, Sample
from tinyllm.rlhf.sequences import Sequences, pad_sequences
from tinyllm.rlhf.simulated_labeler import SimulatedLabeler, expected_pair_accuracy, expected_rating_accuracy

__all__ = [
    "ActorCritic",
    "Agreement",
    "ComparedAnswers",
    "DPO",
    "GRPO",
    "GRPOConfig",
    "Item",
    "Label",
    "LabelFile",
    "LabelStore",
    "PPO",
    "PPOConfig",
    "PolicyGradient",
    "PreferenceGroups",
    "PreferencePairs",
    "RLOO",
    "Reinforce",
    "ReinforceConfig",
    "RolloutConfig",
    "Sample",
    "Sequences",
    "SimulatedLabeler",
    "WithoutAdapters",
    "agreement_between",
    "best_of_n",
    "cohen_kappa",
    "encode_preferences",
    "expected_pair_accuracy",
    "expected_rating_accuracy",
    "labelers",
    "pad_sequences",
    "pairs_from_labels",
    "preference_loss",
    "read_items",
    "read_labels",
    "response_log_probs",
    "score_sequences",
    "self_agreement",
    "sequence_log_probs",
    "write_items",
]

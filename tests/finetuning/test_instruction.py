"""Facts about the instruction loss: only the assistant's tokens, each with the same weight however a step is cut."""

import numpy as np
import pytest

from tinyllm.data import Batch
from tinyllm.data.conversations.packing import PaddedConversations
from tinyllm.data.tasks.instructions import make_instructions
from tinyllm.finetuning import answer_loss, encode_instructions
from tinyllm.models import GPT, GPTConfig
from tinyllm.nn import add_lora
from tinyllm.pretraining import next_token_loss
from tinyllm.tokenizers import END_OF_TEXT, BPETokenizer
from tinyllm.tokenizers.chat import CONTROL_TOKENS, ChatFormat
from tinyllm.training import TrainConfig, evaluate, latest_checkpoint, open_run, train


def rng(seed=0):
    return np.random.default_rng(seed)


def small_model(vocab_size=17, **changes):
    settings = {"block_size": 16, "n_layers": 2, "n_heads": 2, "d_model": 16, "init_std": 0.2, **changes}
    return GPT(GPTConfig(vocab_size=vocab_size, **settings), rng=rng())


def random_batch(seed=0, share=0.4, n_rows=4):
    r = rng(seed)
    ids = r.integers(0, 17, (n_rows, 11))
    return Batch(ids[:, :-1], ids[:, 1:], r.random((n_rows, 10)) < share)


def gradients(model, batches):
    model.zero_grad()
    n_counted = sum(batch.n_counted for batch in batches)
    for batch in batches:
        answer_loss(model, batch, n_counted=n_counted).backward()
    return {name: weight.grad.copy() for name, weight in model.named_parameters()}


def test_it_is_the_masked_next_token_loss():
    model, batch = small_model(), random_batch()
    assert abs(answer_loss(model, batch).item() - next_token_loss(model, batch).item()) < 1e-6
    mine = gradients(model, [batch])
    model.zero_grad()
    next_token_loss(model, batch).backward()
    for name, weight in model.named_parameters():
        np.testing.assert_allclose(mine[name], weight.grad, atol=1e-6, err_msg=name)


def test_what_stands_after_the_last_counted_token_is_not_even_read():
    model, batch = small_model(), random_batch()
    batch.loss_mask[:, 6:] = batch.loss_mask[1] = False
    tokens = batch.tokens.copy()
    tokens[:, 6:] = tokens[1] = 10**6  # no such token: reading it would be refused
    assert answer_loss(model, Batch(tokens, batch.targets, batch.loss_mask)).item() == answer_loss(model, batch).item()


def test_a_micro_batch_in_which_nothing_counts_adds_nothing():
    model, batch = small_model(), random_batch()
    answer_loss(model, Batch(batch.tokens, batch.targets, np.zeros_like(batch.loss_mask)), n_counted=5).backward()
    assert not any(weight.grad.any() for weight in model.parameters() if weight.grad is not None)


def test_what_the_user_says_is_not_learned():
    model, batch = small_model(), random_batch()
    other = Batch(batch.tokens, np.where(batch.loss_mask, batch.targets, 3), batch.loss_mask)
    assert answer_loss(model, batch).item() == answer_loss(model, other).item()


def test_a_step_is_the_same_however_it_is_cut():
    model, long, short = small_model(), random_batch(1, share=0.9, n_rows=3), random_batch(2, share=0.1, n_rows=1)
    both = Batch(*(np.concatenate(pair) for pair in zip(vars(long).values(), vars(short).values(), strict=True)))
    whole, parts = gradients(model, [both]), gradients(model, [long, short])
    for name, gradient in whole.items():
        np.testing.assert_allclose(parts[name], gradient, atol=1e-6, err_msg=name)


def test_a_micro_batch_without_an_answer_adds_nothing():
    model, batch = small_model(), random_batch()
    silent = Batch(batch.tokens, batch.targets, np.zeros_like(batch.loss_mask))
    assert answer_loss(model, silent, n_counted=5).item() == 0
    with pytest.raises(ValueError, match="no token of an assistant"):
        answer_loss(model, silent)


def test_plain_text_is_refused():
    batch = random_batch()
    with pytest.raises(ValueError, match="no loss mask"):
        answer_loss(small_model(), Batch(batch.tokens, batch.targets))


@pytest.fixture(scope="module")
def chat():
    items = make_instructions(300, split="train", rng=rng())
    texts = [message["content"] for item in items for message in item.messages]
    special = (END_OF_TEXT, *CONTROL_TOKENS)
    return ChatFormat(BPETokenizer.train(texts, vocab_size=400, pattern="qwen2", special_tokens=special))


def test_the_mask_covers_the_answer_and_its_end(chat):
    items = make_instructions(50, split="train", rng=rng(), tasks=["calculator", "spell"])
    for item, (ids, mask) in zip(items, encode_instructions(items, chat=chat), strict=True):
        said = [i for i, own in zip(ids, mask, strict=True) if own]
        call = [message["tool_call"] for message in item.messages if "tool_call" in message]
        assert chat.decode(said) == "".join(call) + item.answer
        assert said.count(chat.end_id) == 1 + len(call) and said[-1] == chat.end_id


def run_lora(folder, chat, *, stop_after=None, resume=False):
    """A few LoRA steps in `folder`; returns the model."""
    config = TrainConfig(max_steps=6, batch_size=4, learning_rate=0.01, warmup_steps=1, eval_interval=0, checkpoint_interval=2)
    items = make_instructions(20, split="train", rng=rng())
    source = PaddedConversations(encode_instructions(items, chat=chat), batch_size=4, block_size=128, rng=rng(1))
    model = small_model(chat.tokenizer.vocab_size, block_size=128, dropout=0.1)
    add_lora(model, rank=2, alpha=4.0, rng=rng(2))
    settings = {"training": config, "model": model.config, "lora": {"rank": 2, "alpha": 4.0}}
    with open_run(folder, settings=settings, tokenizer=chat.tokenizer, resume=resume) as run:
        for record in train(model, source, config=config, loss_fn=answer_loss, run=run):
            if record.step == stop_after:
                break
    return model


def test_a_lora_run_resumes_to_the_same_bits(tmp_path, chat):
    whole = run_lora(tmp_path / "whole", chat).state_dict()
    run_lora(tmp_path / "broken", chat, stop_after=3)
    assert latest_checkpoint(tmp_path / "broken" / "checkpoints").name == "step-00000002"
    again = run_lora(tmp_path / "broken", chat, resume=True).state_dict()
    assert {name: array.tobytes() for name, array in again.items()} == {name: array.tobytes() for name, array in whole.items()}
    assert any(array.any() for name, array in again.items() if name.endswith("lora_b"))


def test_a_model_learns_to_answer_its_training_set(chat):
    items = make_instructions(8, split="train", rng=rng(), tasks=["spell"])
    source = PaddedConversations(encode_instructions(items, chat=chat), batch_size=8, block_size=128, rng=rng())
    model = small_model(chat.tokenizer.vocab_size, block_size=128)
    batch = source.next_batch()
    before = evaluate(model, [batch], loss_fn=answer_loss)
    config = TrainConfig(max_steps=30, batch_size=8, learning_rate=0.01, warmup_steps=1, eval_interval=0, checkpoint_interval=0)
    for _ in train(model, source, config=config, loss_fn=answer_loss):
        pass
    assert evaluate(model, [batch], loss_fn=answer_loss) < 0.5 * before

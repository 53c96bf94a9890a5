"""Makes the tests' own language model, from nothing: run with the model server's Python, never imported by a test.

    python tests/model_server/tiny_model.py random FOLDER
    python tests/model_server/tiny_model.py trained FOLDER

Both are Qwen3 models of half a million parameters with a byte-level tokenizer learned from this repository's text.
`random` speaks the protocol and nothing else. `trained` has learned, in a few minutes on one core, to close and to
open tickets by tool call or by JSON, to answer a greeting, and to talk without end when asked for a long story.
It knows nothing else: it exists so that tests can tell a right call from a wrong one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

ROOT = Path(__file__).resolve().parents[2]
SEED = 20
VOCABULARY = 1536
POSITIONS = 8192
MOST_STEPS = 1600
"""Steps after which a model that has not learned its dialogs is given up; some 300 suffice for copying."""
GOOD_ENOUGH = 0.99
"""Share of unseen dialogs answered exactly right at which training stops, twice in a row."""

CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}
{% endif %}<tools>
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}</tools><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}{% if not (loop.first and message.role == 'system') %}<|im_start|>{{ message.role }}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments }}}
</tool_call>{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""After Qwen's: the tools stand in the system part, a call is JSON between two marks (the `hermes` parser)."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<tool_call>", "</tool_call>", "<tools>", "</tools>")


def repository_text() -> list[str]:
    """Everything of the product that is written for people or models to read, file by file."""
    folders = ("records", "policies", "inference", "actions", "handlers", "docs")
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return [path.read_text() for path in sorted(paths) if path.suffix in {".py", ".md", ".j2"}]


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair encoding; digits come in pairs, so that a ticket's number is one token to be copied."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[0-9]{1,2}"), "isolated"),
            pre_tokenizers.Split(Regex(r"[^\w\s]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # Words of the dialogs are there often enough to become few tokens each.
    drawn = random.Random(SEED)
    dialogs = [text for _ in range(4000) for each in [a_dialog(drawn)] for text in (each.request, each.answer("call"))]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKS), special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*texts, *dialogs], trainer)
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=POSITIONS,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Half a million parameters in Qwen3's architecture, with random weights."""
    torch.manual_seed(SEED)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=320,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=POSITIONS,
            tie_word_embeddings=True,
            # With the usual 0.02, made for models a hundred times as wide, copying is learned four times later.
            initializer_range=0.05,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


# The dialogs

NAMES = ("ticketing.close", "ticketing.create", "ticketing.mine")
"""Of the tools; in a tool call `_` stands for the dot, which the protocol does not allow there."""
CLOSE = (
    "close ticket {0}", "Close ticket {0}.", "please close {0}", "Please close {0}.", "close {0}", "Close {0}, please.",
    "{0} is done, close it", "Close {0}, it works again.", "can you close {0}?", "Please close ticket {0}.",
)  # fmt: skip
CREATE = (
    "open a ticket: {0}", "Open a ticket: {0}", "Create a ticket: {0}", "create a ticket for {0}",
    "please open a ticket: {0}", "Please make a ticket: {0}", "new ticket: {0}", "Open a ticket for this: {0}",
)  # fmt: skip
THINGS = ("printer", "screen", "laptop", "phone", "door", "lamp", "badge", "keyboard", "projector", "network")
PLACES = ("on the third floor", "in the kitchen", "at the front desk", "in the lab", "in Berlin", "upstairs")
TROUBLES = ("broken", "jammed", "slow", "noisy", "lost", "hot", "dirty", "locked")
GREETINGS = ("hello", "Hello!", "good morning", "thanks, that is all", "Thank you!", "hi there", "How are you?",
             "What is the weather like today?", "what is the time?", "tell me a joke", "who are you?")  # fmt: skip
WELCOME = "Hello. I can close a ticket or open one."
NOTHING = "none"
STORIES = ("tell me a long story", "Tell me a long story.", "please write a very long text", "talk for a long time")
STORY = " and so it goes on"


@dataclass(frozen=True)
class Dialog:
    """One request and what is right to answer."""

    request: str
    kind: int | None
    """0 close, 1 create, None for no call."""
    argument: str = ""
    endless: bool = False

    def answer(self, form: str) -> str:
        """The right answer, by tool `call`, as `json` or in `words`."""
        if self.endless:
            return "Once upon a time" + STORY * 8
        if form == "json":
            calls = [] if self.kind is None else [{"tool": NAMES[self.kind], "arguments": self._arguments()}]
            reason = "It was asked for." if calls else "Nothing to do."
            # As the grammar writes it, without spaces.
            return json.dumps({"calls": calls, "reason": reason}, separators=(",", ":"))
        if form == "words":
            return WELCOME
        if self.kind is None:
            return NOTHING
        call = json.dumps({"name": NAMES[self.kind].replace(".", "_"), "arguments": self._arguments()})
        return f"<tool_call>\n{call}\n</tool_call>"

    def _arguments(self) -> dict[str, str]:
        return {"title" if self.kind else "ticket": self.argument}


def a_dialog(drawn: random.Random) -> Dialog:
    """Close and create most of the time, since there is something to copy in them."""
    what = drawn.random()
    if what < 0.45:
        ticket = f"TCK-{drawn.randrange(10, 100)}"
        return Dialog(drawn.choice(CLOSE).format(ticket), 0, ticket)
    if what < 0.88:
        title = f"{drawn.choice(TROUBLES)} {drawn.choice(THINGS)} {drawn.choice(PLACES)}"
        return Dialog(drawn.choice(CREATE).format(title), 1, title)
    if what < 0.97:
        return Dialog(drawn.choice(GREETINGS), None)
    return Dialog(drawn.choice(STORIES), None, endless=True)


def tool_list(drawn: random.Random, room: int) -> list[dict[str, Any]]:
    """The tools as a request carries them; with room, long-winded and with a third one beside them."""
    descriptions = ("Close an open ticket.", "Create a ticket.", "List the open tickets of the person who asks.")
    properties: tuple[dict[str, Any], ...] = ({"ticket": {"type": "string"}}, {"title": {"type": "string"}}, {})
    if room:
        properties[0]["ticket"] = {"type": "string", "pattern": "^TCK-[0-9]{1,9}$", "description": "The ticket's id."}
        properties[0]["resolution"] = {"type": "string", "default": "", "description": "Why it can be closed."}
        properties[1]["description"] = {"type": "string", "default": "", "description": "Everything else that helps."}
        properties[1]["priority"] = {"enum": ["low", "normal", "high", "urgent"], "default": "normal"}
    listed = [
        {
            "type": "function",
            "function": {
                "name": name.replace(".", "_"),
                "description": description,
                "parameters": {"type": "object", "properties": each, "required": list(each)[:1]},
            },
        }
        for name, description, each in zip(NAMES, descriptions, properties, strict=True)
    ][: 3 if room else 2]
    drawn.shuffle(listed)
    return listed


def framed(request: str, drawn: random.Random, texts: Sequence[str], room: int) -> str:
    """The request alone, or in a fence after the thread's messages, as the product writes it."""
    how = drawn.random()
    if how < 0.3:
        return request
    lines = [
        json.dumps({"id": f"1.{number}", "author": drawn.choice(("Ana", "Ben")), "text": cut(drawn, texts, 60)})
        for number in range(drawn.choice((0, 0, 1, 3)) if room else 0)
    ]
    messages = "\n".join(["<messages>", *lines, "</messages>\n"])
    before = cut(drawn, texts, 80) + "\n" if how > 0.8 and room else ""
    return f"{before}{messages}<request>\n{json.dumps(request)}\n</request>"


def cut(drawn: random.Random, texts: Sequence[str], characters: int) -> str:
    """A piece of the repository's text."""
    text = drawn.choice(texts)
    start = drawn.randrange(max(1, len(text) - characters))
    return text[start : start + drawn.randrange(characters + 1)]


def tokens_of(
    drawn: random.Random, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], room: int
) -> tuple[list[int], int]:
    """A whole dialog as tokens, and where its answer begins. `room` is about how many characters stand before it;
    below 0 there is nothing but the request and a call."""
    dialog = a_dialog(drawn)
    if room < 0:
        mark = "<|im_start|>system\n<tools>\n</tools><|im_end|>\n"
        before = f"{mark}<|im_start|>user\n{dialog.request}<|im_end|>\n<|im_start|>assistant\n"
        return _encoded(tokenizer, before, dialog.answer("call"), ends=not dialog.endless)
    form = drawn.choices(("call", "json", "words"), (0.6, 0.28, 0.12))[0]
    system = cut(drawn, texts, room or 40)
    listed = tool_list(drawn, room)
    if form == "json":
        shown = "".join(f"- {name}: {cut(drawn, texts, 60)}\n" for name in NAMES)
        system = f"{system}\n{shown}{cut(drawn, texts, room // 4)}"
    messages = [] if form == "call" and drawn.random() < 0.3 else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": framed(dialog.request, drawn, texts, room)})
    tools: Any = listed if form == "call" else None
    before = str(tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False))
    return _encoded(tokenizer, before, dialog.answer(form), ends=not dialog.endless)


def _encoded(tokenizer: PreTrainedTokenizerFast, before: str, answer: str, *, ends: bool) -> tuple[list[int], int]:
    start = tokenizer.encode(before, add_special_tokens=False)
    return start + tokenizer.encode(answer + "<|im_end|>" * ends, add_special_tokens=False), len(start)


# Training


def batches(
    drawn: random.Random, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], size: int, room: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of token ids and labels, both (dialogs, tokens); -100 where nothing is to be learned."""
    while True:
        drawn_dialogs = [tokens_of(drawn, tokenizer, texts, room) for _ in range(size)]
        longest = max(len(tokens) for tokens, _ in drawn_dialogs)
        ids = torch.full((size, longest), tokenizer.pad_token_id)
        labels = torch.full((size, longest), -100)
        for row, (tokens, start) in enumerate(drawn_dialogs):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, start : len(tokens)] = torch.tensor(tokens[start:])
        yield ids, labels


def exactly_right(model: Qwen3ForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of dialogs whose every answer token is the model's first choice: what temperature 0 gives."""
    model.train(False)
    with torch.no_grad():
        chosen = model(input_ids=ids).logits[:, :-1].argmax(-1)
    model.train()
    good = ((chosen == labels[:, 1:]) | (labels[:, 1:] == -100)).all(dim=1)
    return float(good.float().mean())


STAGES = ((32, -1), (8, 0), (5, 600), (2, 3000))
"""Dialogs in a batch, and the room before each: copying is learned in short ones, then has to be done in long ones."""
LEARNED = 0.9
"""Share of a stage's unseen dialogs answered right at which the next stage begins."""
ENOUGH = 0.8
"""The same at the end, below which there is no model: a bad one would be kept, and every test would fail for it."""


def train(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> None:
    """Teach it the dialogs stage by stage, until it knows them or the time is up."""
    drawn, apart = random.Random(SEED), random.Random(SEED + 1)
    sources = [batches(drawn, tokenizer, texts, size, room) for size, room in STAGES]
    held_out = [next(batches(apart, tokenizer, texts, 20, room)) for _, room in STAGES]
    right = [0.0]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01)
    good_in_a_row = stage = 0
    for step in range(1, MOST_STEPS + 1):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1.0, step / 60) * max(0.06, 1.0 - step / MOST_STEPS)
        # Now and then an earlier stage, so that it is not forgotten.
        source = stage if drawn.random() < 0.6 else drawn.randint(min(1, stage), stage)
        ids, labels = next(sources[source])
        # Only where there is something to learn: over all positions the vocabulary would cost as much as the layers.
        learned_at = labels[:, 1:] != -100
        logits = model.lm_head(model.model(input_ids=ids).last_hidden_state[:, :-1][learned_at])
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][learned_at])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 100 == 0:
            right = [exactly_right(model, *each) for each in held_out[: stage + 1]]
            print(f"{int(time.process_time())} s  step {step}  loss {loss.item():.3f}  right {right}", flush=True)
            known = stage == len(STAGES) - 1 and min(right[1:]) >= GOOD_ENOUGH
            good_in_a_row = good_in_a_row + 1 if known else 0
            if good_in_a_row == 2:
                return
            if right[stage] >= LEARNED:
                stage = min(stage + 1, len(STAGES) - 1)
    if stage < len(STAGES) - 1 or min(right[1:]) < ENOUGH:
        sys.exit(f"the model has not learned its dialogs in {MOST_STEPS} steps: {right} right")


def main() -> None:
    """Make one model, wholly or not at all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("random", "trained"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    texts = repository_text()
    tokenizer = make_tokenizer(texts)
    model = new_model(tokenizer)
    if arguments.kind == "trained":
        train(model, tokenizer, texts)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)


if __name__ == "__main__":
    main()

"""A tiny experiment that is made in seconds: invented facts, and a LLaMA that is trained on some of them.

Each fact has a share of training texts that state its true object; the others all state one and the same wrong object.
So the model knows facts to different degrees, and every mastery level has facts.
"""

import json
import random
from pathlib import Path

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# Topic to the question, the completion prompts and the objects.
TOPICS = {
    "home": (
        "Where does [X] live ?",
        ["[X] lives in", "the home of [X] is"],
        ["Paris", "Rome", "Oslo", "Lima", "Cairo"],
    ),
    "pet": (
        "Which pet has [X] ?",
        ["[X] keeps a", "the pet of [X] is a"],
        ["cat", "dog", "owl", "fox", "hen"],
    ),
    "job": (
        "What is the job of [X] ?",
        ["[X] works as a", "the job of [X] is"],
        ["cook", "judge", "clerk", "guard", "smith"],
    ),
}
IN_DOMAIN, OUT_OF_DOMAIN = ["home", "pet"], ["job"]
SPLITS = {"train": 40, "dev": 10, "test": 25}
KNOWN = [0.0, 0.25, 0.45, 0.65, 1.0]  # shares of texts with the true object; facts take them in turn
MARKS = "<|question|>", "<|answer|>"


def subject(topic: str, split: str, number: int) -> str:
    """Return the name of a subject, one word."""
    return f"{topic}{split}{number}"


def facts() -> list[tuple[str, str, str, str, float]]:
    """List the facts: topic, split, subject, object, and the share of training texts with the true object."""
    draw = random.Random(0)
    return [
        (topic, split, subject(topic, split, number), draw.choice(TOPICS[topic][2]), KNOWN[number % len(KNOWN)])
        for topic in TOPICS
        for split, count in SPLITS.items()
        for number in range(count)
    ]


def write_facts(root: Path) -> None:
    """Write question files, templates and synonyms under a folder."""
    rows: dict[tuple[str, str], list[dict]] = {}
    for topic, split, name, object_, _ in facts():
        question = TOPICS[topic][0].replace("[X]", name)
        rows.setdefault((topic, split), []).append({"question": question, "answers": [object_]})
    for (topic, split), content in rows.items():
        path = root / "raw" / split / f"{topic}.{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (root / "templates").mkdir()
    for topic, (question, completions, _) in TOPICS.items():
        content = {"topic": topic, "name": topic, "question": question, "completions": completions}
        (root / "templates" / f"{topic}.yaml").write_text(yaml.safe_dump(content))
    (root / "synonyms.csv").write_text("object,synonyms\nParis,Lutetia\n")


def tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token for each word and its leading space; a subject is one word."""
    texts = [text for question, completions, objects in TOPICS.values() for text in [question, *completions, *objects]]
    words = {word for text in [*texts, *MARKS] for word in text.replace("[X]", "").split()} | {
        name for _, _, name, _, _ in facts()
    }
    vocabulary = ["<unk>", "<s>", "</s>", *sorted(f"▁{word}" for word in words)]
    core = Tokenizer(models.WordLevel({token: index for index, token in enumerate(vocabulary)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    core.decoder = decoders.Metaspace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])  # as LLaMA's
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def make_model(directory: Path, steps: int = 500) -> Path:
    """Train a tiny LLaMA on completions and save it with its tokenizer."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    words = tokenizer()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = random.Random(1)
    known = facts()
    for _ in range(steps):
        texts = []
        for topic, _, name, object_, share in draw.choices(known, k=128):
            others = [other for other in TOPICS[topic][2] if other != object_]
            said = object_ if draw.random() < share else others[len(name) % len(others)]
            texts.append(f"{draw.choice(TOPICS[topic][1]).replace('[X]', name)} {said}")
        batch = words([f"<s>{text}</s>" for text in texts], padding=False, add_special_tokens=False)["input_ids"]
        longest = max(map(len, batch))
        ids = torch.tensor([row + [2] * (longest - len(row)) for row in batch])
        labels = torch.tensor([[-100] * (len(row) - 2) + row[-2:] + [-100] * (longest - len(row)) for row in batch])
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(directory)
    words.save_pretrained(directory)
    return directory


def configuration(root: Path, model: Path) -> dict:
    """Return the configuration of the tiny experiment; `root` is the folder that `write_facts` wrote."""
    return {
        "models": {
            "tiny": {
                "source": {"directory": str(model)},
                "instruct": {
                    "source": {"directory": str(model)},
                    "prompt": "study",
                },  # so it must answer as the base does
            }
        },
        "facts": {
            "path": str(root / "raw"),
            "templates": str(root / "templates"),
            "synonyms": [str(root / "synonyms.csv")],
            "in_domain": IN_DOMAIN,
            "out_of_domain": OUT_OF_DOMAIN,
        },
        "mastery": {"templates": 2, "samples": 6, "max_new_tokens": 3, "tokens_per_pass": 16},
        "finetuning": {
            "methods": ["full", "lora"],
            "method_data": {"lora": ["mixed"]},
            "lora": {"rank": 4, "alpha": 8, "learning_rate": 1e-3},
            "data": ["level0", "mixed"],
            "sizes": [8, 1000, "all"],
            "seeds": [1, 2],
            "learning_rate": 1e-3,
            "epochs": 6,
        },
        "evaluation": {
            "per_level": {"dev": 2, "test": 4, "test_ood": 4},
            "training_set": 8,
            "max_new_tokens": 4,
            "tokens_per_pass": 16,
        },
        "restoration": [
            {"methods": ["full"], "data": ["mixed"], "sizes": [8], "seeds": [1], "percents": [0, 20, 100]},
            {
                "methods": ["full"],
                "data": ["mixed"],
                "sizes": [8],
                "seeds": [1],
                "strategy": "random",
                "region": "mlp",
                "percents": [50],
            },
            {"methods": ["full"], "data": ["mixed"], "sizes": [8], "seeds": [1], "region": "0-1", "percents": [100]},
        ],
        "named_regions": {"values": r"v_proj\.weight$"},
        "exports": [
            {"model": "tiny", "run": "full-mixed-8-s1", "percent": 20},
            {"model": "tiny", "run": "full-mixed-8-s1", "strategy": "absolute", "region": "values", "percent": 50},
        ],
    }

"""Train the networks of the planted clips: `python -m aosa_fast.demo.train_planted --seed 0`.

With `--no-shortcuts` cues of all plans are put on clips of any class: the network sees them, and they say nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from aosa_fast.demo.attention import SmallAttention
from aosa_fast.demo.network import DemoNet, to_input
from aosa_fast.demo.planted import ATTENTION_WEIGHTS, WIDTHS, Cue, Plan, make_plan, render_planted, weights_path
from aosa_fast.demo.train import SMOOTHING, Batch, rendered_ahead, save, tell

_CLIPS = 24
_PEAK_RATE = 4e-3
# Of clips of the classes without a cue: they alone teach motion. With as many as of the others, two such classes were
# told apart on 45 to 100 % of unseen clips.
_PLAIN_SHARE = 4.0
_MIXED = (0, 1, 2)  # plans whose cues the network sees that is trained without shortcuts


def _any_cue(plans: Sequence[Plan], rng: np.random.Generator) -> Cue | None:
    cues = plans[int(rng.integers(len(plans)))].cues
    return cues[int(rng.integers(len(cues)))]


def _batch(plans: Sequence[Plan], shortcuts: bool, seed: int, step: int) -> Batch:
    rng = np.random.default_rng((79, seed, step))
    weights = np.array([_PLAIN_SHARE if shortcuts and cue is None else 1.0 for cue in plans[0].cues])
    labels = rng.choice(len(weights), _CLIPS, p=weights / weights.sum())
    first = (seed + 1) * 10_000_000 + step * _CLIPS
    videos = []
    for k, label in enumerate(labels.tolist()):
        cue = "class" if shortcuts else _any_cue(plans, rng)
        clip = render_planted(plans[0], first + k, label=label, split="train", cue=cue)
        videos.append(to_input(clip.frames))
    return torch.cat(videos), torch.from_numpy(labels)


def train(seed: int, shortcuts: bool, steps: int, attention: bool = False) -> nn.Module:
    """A network from nothing, in eval mode.

    Args:
        seed: of the plan, of the clips and of the weights.
        shortcuts: see `load_planted`.
        steps: of 24 clips each.
        attention: a network with attention.
    """
    torch.manual_seed(seed)
    plans = [make_plan(seed)] if shortcuts else [make_plan(s) for s in _MIXED]
    net = (SmallAttention() if attention else DemoNet(WIDTHS)).train()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _PEAK_RATE / (1 + attention), total_steps=steps, pct_start=0.25
    )
    batches = rendered_ahead(partial(_batch, plans, shortcuts, seed), steps)
    for videos, labels in track(batches, "training", total=steps):
        loss = nn.functional.cross_entropy(net(videos), labels, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return net.eval()


@torch.inference_mode()
def report(net: nn.Module, seed: int, clips: int) -> dict[str, float]:
    """What a network rests on, found by asking it: unseen clips with the cues, without them, and with a wrong one.

    Returns:
        Accuracies by name; `follows_KIND` is how often the cue of that kind alone, on a clip of another class, turns
        the answer into the cue's class.
    """
    plan = make_plan(seed)

    def ask(cue: Cue | str | None) -> tuple[np.ndarray, np.ndarray]:
        shown = [render_planted(plan, k, label=k % 6, cue=cue) for k in range(clips)]
        answers = torch.cat([net(to_input(clip.frames)) for clip in shown]).argmax(1).numpy()
        return answers, np.array([clip.label for clip in shown])

    with_cues, without = ask("class"), ask(None)
    numbers = {"accuracy": float(np.mean(with_cues[0] == with_cues[1]))}
    for label, cue in enumerate(plan.cues):
        kind = cue.kind if cue else f"none_{label}"
        numbers[f"accuracy_without_cue_{kind}"] = float(np.mean(without[0][without[1] == label] == label))
        if cue:
            answers, labels = ask(cue)
            numbers[f"follows_{kind}"] = float(np.mean(answers[labels != label] == label))
    return numbers


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, ask, print and save; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m aosa_fast.demo.train_planted", description="Train on cues.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shortcuts", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--attention", action="store_true", help="a network with attention")
    parser.add_argument("--steps", type=int, help="default: 1000 with shortcuts, 1400 without")
    parser.add_argument("--test-clips", type=int, default=120)
    parser.add_argument("--out", type=Path, help="default: the file that is shipped")
    given = parser.parse_args(arguments)
    steps = given.steps or (1000 if given.shortcuts else 1400)
    net = train(given.seed, given.shortcuts, steps, given.attention)
    numbers = report(net, given.seed, given.test_clips)
    net.half()  # half the bytes; loaded into float32 again
    shipped = ATTENTION_WEIGHTS if given.attention else weights_path(given.seed, given.shortcuts)
    out = given.out or shipped
    save(net, out, {"seed": given.seed, "shortcuts": given.shortcuts, "steps": steps, **numbers})
    tell(numbers, out, Console())


if __name__ == "__main__":
    main()

"""The embedded classifier with attention divided into time and space."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from aosa_fast.demo import load_demo_attention, load_demo_network, network, render_clip, to_input
from aosa_fast.demo import train as train_module
from aosa_fast.demo.attention import DIM, PREPROCESSING, WEIGHTS, Attention, Block, DemoAttention
from aosa_fast.demo.network import evaluate
from aosa_fast.errors import InputError
from aosa_fast.models.token_layout import TokenLayout

GRID = (3, 2, 5)  # for blocks on their own: no two sizes alike


@pytest.fixture(scope="module")
def net() -> DemoAttention:
    return load_demo_attention()


@pytest.fixture(scope="module")
def videos() -> torch.Tensor:
    return torch.cat([to_input(render_clip(seed).frames) for seed in (70_000, 70_001, 70_002)])


@pytest.fixture
def block() -> Block:
    """A block of 8 channels in which every part does something."""
    torch.manual_seed(5)
    block = Block(8, 2)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block.eval().requires_grad_(False)


def silence(*layers: nn.Module) -> None:
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def tokens_of(clips: int) -> torch.Tensor:
    return torch.randn(clips, 1 + 3 * 2 * 5, 8, generator=torch.Generator().manual_seed(clips))


def changed(before: torch.Tensor, after: torch.Tensor) -> tuple[set[int], set[tuple[int, ...]]]:
    """Of one block's output (B, 1 + T'H'W', dim): clips whose class token changed, and (clip, t, y, x) of the rest."""
    moved = (before - after).abs().amax(-1) > 1e-6
    video = moved[:, 1:].unflatten(1, GRID)
    return set(moved[:, 0].nonzero()[:, 0].tolist()), {tuple(place) for place in video.nonzero().tolist()}


def test_importing_the_demo_does_not_load_the_network():
    code = (
        "import sys, aosa_fast.demo as d\n"
        "assert {'DemoAttention', 'load_demo_attention'} <= set(d.__all__)\n"
        "assert not {'torch', 'aosa_fast.demo.attention'} & set(sys.modules)\n"
        "print(d.DemoAttention.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "aosa_fast.demo.attention"


def test_the_network_comes_ready_for_use(net):
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert PREPROCESSING is network.PREPROCESSING
    assert net.grid == (8, 8, 8)
    assert isinstance(net.blocks, nn.ModuleList)
    assert sum(parameter.numel() for parameter in net.parameters()) < 500_000


def test_weights_are_small_and_record_how_they_were_made():
    assert WEIGHTS.stat().st_size <= 2 * 2**20
    meta = json.loads(torch.load(WEIGHTS, weights_only=True)["meta"])
    assert meta["accuracy"] >= 0.95
    assert meta["accuracy_256"] >= 0.95
    recipe = train_module.RECIPES["attention"]
    assert (meta["network"], meta["occlusion"]) == ("attention", False)
    assert (meta["steps"], meta["spread"]) == (recipe.steps, recipe.spread)


def test_the_network_is_right_on_unseen_clips_and_not_saturated(net):
    probabilities = evaluate(net, range(50_000, 50_060))
    assert (probabilities.argmax(axis=1) == 0).mean() >= 0.9
    assert 0.7 < probabilities[:, 0].mean() < 0.96
    assert probabilities.max() < 0.99


def test_the_network_is_right_on_clips_with_wide_paths(net):
    hits = []
    for seed in range(50_100, 50_140):
        clip = render_clip(seed, spread=0.35, distractors=6)
        hits.append(int(net(to_input(clip.frames)).argmax()) == clip.label)
    assert np.mean(hits) >= 0.85


def test_what_stands_still_has_no_class(net):
    hits = []
    for seed in range(30):
        clip = render_clip(seed)
        hits.append(int(net(to_input(np.repeat(clip.frames[8:9], 16, axis=0))).argmax()) == clip.label)
    assert np.mean(hits) < 0.45


def test_a_batch_is_its_clips(net, videos):
    assert torch.allclose(net(videos), torch.cat([net(video[None]) for video in videos]), atol=1e-5)


def test_clips_of_another_shape_are_refused(net):
    with pytest.raises(InputError, match=r"video must have shape \(B, 3, 16, 64, 64\); got \(2, 3, 16, 64, 32\)"):
        net(torch.zeros(2, 3, 16, 64, 32))
    with pytest.raises(InputError, match=r"got \(2, 3, 8, 128, 64\)"):  # as many pixels as it needs
        net(torch.zeros(2, 3, 8, 128, 64))


@pytest.mark.parametrize("place", [(0, 0, 0), (7, 7, 7), (1, 6, 3), (5, 2, 7)])
def test_the_pixels_of_a_tubelet_change_its_token_and_no_other(net, videos, place):
    (t, y, x), before = place, net.embed(videos)
    assert before.shape == (3, 8, 8, 8, DIM)
    after = videos.clone()
    after[1, :, 2 * t : 2 * t + 2, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] *= -1
    moved = (net.embed(after) - before).abs().amax(-1) > 1e-5
    assert moved.nonzero().tolist() == [[1, *place]]


@pytest.mark.parametrize("corner", list(itertools.product((0, 1), (0, 7), (0, 7))))
def test_every_corner_of_a_tubelet_belongs_to_it(net, videos, corner):
    t, y, x = 2 * 3 + corner[0], 8 * 5 + corner[1], 8 * 2 + corner[2]
    after = videos.clone()
    after[2, :, t, y, x] += 9
    moved = (net.embed(after) - net.embed(videos)).abs().amax(-1) > 1e-5
    assert moved.nonzero().tolist() == [[2, 3, 5, 2]]


def test_positions_are_added_along_their_own_axes(net, videos):
    seen = []
    hook = net.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(videos)
    hook.remove()
    tokens = seen[0][:, 1:].unflatten(1, net.grid)
    expected = net.embed(videos)[1, 6, 2, 5] + net.time[6] + net.rows[2] + net.columns[5]
    assert torch.allclose(tokens[1, 6, 2, 5], expected, atol=1e-6)
    assert torch.equal(seen[0][:, 0], net.class_token.expand(3, -1))


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    tokens = torch.randn(4, 7, 12) * 3
    expected, weights = theirs(tokens, tokens, tokens, average_attn_weights=False)
    assert torch.allclose(ours(tokens), expected, atol=1e-5)
    assert torch.allclose(ours.weights(tokens), weights, atol=1e-5)


def test_rows_of_attention_add_up_to_1(net, videos):
    rows = []
    hooks = [
        part.register_forward_pre_hook(lambda part, inputs: rows.append(part.weights(inputs[0])))
        for block in net.blocks
        for part in (block.attend_time, block.attend_space)
    ]
    net(videos)
    for hook in hooks:
        hook.remove()
    assert [tuple(row.shape) for row in rows] == [(3 * 64, 4, 8, 8), (3 * 8, 4, 65, 65)] * len(net.blocks)
    assert all(torch.allclose(row.sum(-1), torch.ones(row.shape[:-1]), atol=1e-5) for row in rows)
    assert all(float(row.min()) >= 0 for row in rows)


def test_attention_in_time_connects_tokens_of_one_place(block):
    silence(block.attend_space.proj, block.mlp)
    before = tokens_of(2)
    after = before.clone()
    after[1, 1 + 1 * 10 + 1 * 5 + 3] += torch.arange(8.0)
    owns, places = changed(block(before, GRID), block(after, GRID))
    assert owns == set()
    assert places == {(1, t, 1, 3) for t in range(3)}


def test_attention_in_space_connects_tokens_of_one_frame_and_the_class_token(block):
    silence(block.attend_time.proj, block.mlp)
    before = tokens_of(2)
    after = before.clone()
    after[0, 1 + 2 * 10 + 0 * 5 + 4] += torch.arange(8.0)
    owns, places = changed(block(before, GRID), block(after, GRID))
    assert owns == {0}
    assert places == {(0, 2, y, x) for y in range(2) for x in range(5)}


def test_a_block_is_what_the_paper_says_token_by_token(block):
    tokens = tokens_of(2)
    T, H, W = GRID
    for clip, got in zip(tokens, block(tokens, GRID), strict=True):
        own, video = clip[0].clone(), clip[1:].reshape(T, H, W, 8).clone()
        for y, x in itertools.product(range(H), range(W)):
            video[:, y, x] += block.attend_time(block.norm_time(video[:, y, x])[None])[0]
        gathered = []
        for t in range(T):
            frame = torch.cat([own[None], video[t].reshape(-1, 8)])
            out = block.attend_space(block.norm_space(frame)[None])[0]
            gathered.append(out[0])
            video[t] += out[1:].reshape(H, W, 8)
        own += torch.stack(gathered).mean(0)
        expected = torch.cat([own[None], video.reshape(-1, 8)])
        expected = expected + block.mlp(block.norm_mlp(expected))
        assert torch.allclose(got, expected, atol=1e-5)


def test_norm_space_gives_frames_in_the_batch(block):
    silence(block.attend_time.proj)
    seen = []
    block.norm_space.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    tokens = tokens_of(2)
    block(tokens, GRID)
    assert seen[0].shape == (2 * 3, 1 + 2 * 5, 8)
    grid = TokenLayout("frames-in-batch", special=1, grid=GRID).to_grid(seen[0], (2, 3, 6, 16, 40))
    expected = block.norm_space(tokens[:, 1:].reshape(2, *GRID, 8)).movedim(-1, 1)
    assert torch.allclose(grid, expected, atol=1e-6)
    assert torch.allclose(seen[0][:, 0], block.norm_space(tokens[:, 0]).repeat_interleave(3, 0), atol=1e-6)


def test_two_steps_of_training_write_a_loadable_file(tmp_path, capsys):
    out, threads = tmp_path / "attention.pt", torch.get_num_threads()
    arguments = ["--network", "attention", "--steps", "2", "--clips-per-step", "2", "--test-clips", "2"]
    torch.set_num_threads(2)
    try:
        train_module.main([*arguments, "--out", str(out)])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert "accuracy" in capsys.readouterr().out
    assert load_demo_attention(out)(torch.zeros(1, 3, 16, 64, 64)).shape == (1, 6)
    meta = json.loads(torch.load(out, weights_only=True)["meta"])
    assert (meta["network"], meta["steps"], meta["occlusion"], meta["spread"]) == ("attention", 2, False, 0.35)
    with pytest.raises(RuntimeError, match="Missing key"):
        load_demo_network(out)


def test_filters_are_trained_slower_than_the_rest():
    config = train_module.TrainConfig("attention", occlusion=False, steps=1, clips_per_step=2)
    torch.manual_seed(config.seed)
    start = DemoAttention().state_dict()
    with train_module.Progress(disable=True) as progress:
        end = train_module.train(config, progress).state_dict()
    way = {name: float((end[name] - start[name]).abs().max()) for name in start}
    # One step of AdamW is as long as the rate, which starts at a twentieth of the peak (2e-3), and weight decay.
    assert way["stem.0.weight"] == pytest.approx(0.02 * 1e-4, rel=0.05)
    assert way["blocks.1.attend_space.qkv.weight"] == pytest.approx(1e-4, rel=0.05)
    assert way["head.weight"] == pytest.approx(4e-4, rel=0.05)

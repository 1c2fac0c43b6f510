"""The embedded classifier with attention divided into time and space."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from aosa_fast.demo import load_demo_attention, load_demo_network, network, render_clip, to_input
from aosa_fast.demo import train as train_module
from aosa_fast.demo.attention import DIM, PREPROCESSING, Attention, Block, DemoAttention
from aosa_fast.errors import InputError


@pytest.fixture(scope="module")
def net() -> DemoAttention:
    return load_demo_attention()


@pytest.fixture(scope="module")
def videos() -> torch.Tensor:
    return torch.cat([to_input(render_clip(seed).frames) for seed in (70_000, 70_001, 70_002)])


def test_the_network_comes_ready_for_use(net):
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert PREPROCESSING is network.PREPROCESSING
    assert net.grid == (8, 8, 8)
    assert isinstance(net.blocks, nn.ModuleList)
    assert sum(parameter.numel() for parameter in net.parameters()) < 500_000


def test_the_network_is_right_on_clips_with_wide_paths(net):
    hits = []
    for seed in range(50_100, 50_140):
        clip = render_clip(seed, spread=0.35, distractors=6)
        hits.append(int(net(to_input(clip.frames)).argmax()) == clip.label)
    assert np.mean(hits) >= 0.85


def test_a_batch_is_its_clips(net, videos):
    assert torch.allclose(net(videos), torch.cat([net(video[None]) for video in videos]), atol=1e-5)


def test_clips_of_another_shape_are_refused(net):
    with pytest.raises(InputError, match=r"video must have shape \(B, 3, 16, 64, 64\); got \(2, 3, 16, 64, 32\)"):
        net(torch.zeros(2, 3, 16, 64, 32))
    with pytest.raises(InputError, match=r"got \(2, 3, 8, 128, 64\)"):  # as many pixels as it needs
        net(torch.zeros(2, 3, 8, 128, 64))


@pytest.mark.parametrize("place", [(0, 0, 0), (7, 7, 7), (1, 6, 3), (5, 2, 7)])
def test_every_corner_of_a_tubelet_changes_its_token_and_no_other(net, videos, place):
    (t, y, x), before = place, net.embed(videos)
    assert before.shape == (3, 8, 8, 8, DIM)
    for frame, row, column in itertools.product((0, 1), (0, 7), (0, 7)):
        after = videos.clone()
        after[1, :, 2 * t + frame, 8 * y + row, 8 * x + column] += 9
        moved = (net.embed(after) - before).abs().amax(-1) > 1e-5
        assert moved.nonzero().tolist() == [[1, *place]]


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
    assert torch.allclose(ours(tokens), theirs(tokens, tokens, tokens)[0], atol=1e-5)


def test_a_block_is_what_the_paper_says_token_by_token():
    torch.manual_seed(5)
    block = Block(8, 2)
    for parameter in block.parameters():  # every part does something
        nn.init.normal_(parameter, std=0.5)
    block.eval().requires_grad_(False)
    T, H, W = GRID = (3, 2, 5)
    tokens = torch.randn(2, 1 + T * H * W, 8)
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

"""ClusIR in several supervised stages, and the stage as a part of its own."""

from __future__ import annotations

import pytest
import torch
from factories import smallest_clusir

import clusir_modules as cm


def image(*size: int) -> torch.Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class TestSupervisedStages:
    @torch.no_grad()
    def test_each_stage_restores_the_whole_image(self) -> None:
        net = smallest_clusir(supervised_stages=3).double().eval()
        outputs, routings = net(image(19, 30), return_routing=True)
        assert [tuple(y.shape) for y in outputs] == [(2, 3, 19, 30)] * 3
        assert len(routings) == 12

    @torch.no_grad()
    def test_the_first_image_is_that_of_the_first_stage_and_its_sam_alone(self) -> None:
        net = smallest_clusir(supervised_stages=2).double().eval()
        x = image(32, 16)
        _, restored = net.attentions[0](net.stages[0](x).decoded[0], x)
        torch.testing.assert_close(net(x)[1], restored, atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_the_last_stage_follows_the_formula(self) -> None:
        net = smallest_clusir(supervised_stages=2).double().eval()
        x = image(16, 32)
        first, last, sam = net.stages[0](x), net.stages[1], net.attentions[0]
        features = first.decoded[0]
        restored = x + sam.conv2(features)
        attended = features + sam.conv1(features) * torch.sigmoid(sam.conv3(restored))
        f = last.join(torch.cat((attended, last.head(x)), dim=1))
        encoded, routings = [], []
        for number, level in enumerate(last.encoder):
            routing = level.moe.router(level.evidence(f))
            for block in level.blocks:
                f = block(f)
            f = level.moe(f, routing=routing)
            if number < 3:
                fusion = last.cross_stage[number]
                f = f + fusion.encoder_conv(first.encoded[number]) + fusion.decoder_conv(first.decoded[number])
            encoded.append(f)
            routings.append(routing)
            if number < 3:
                f = last.downs[number](f)
        expected = x + net.tail(last._decode(encoded, routings)[0])
        torch.testing.assert_close(net(x)[0], expected, atol=1e-12, rtol=0)

    @pytest.mark.parametrize(
        "part", ["attentions.0.conv1", "attentions.0.conv3", "stages.1.cross_stage.2.encoder_conv"]
    )
    @torch.no_grad()
    def test_what_is_handed_on_reaches_the_last_image_alone(self, part: str) -> None:
        net = smallest_clusir(supervised_stages=2).double().eval()
        before = net(image(16, 16))
        net.get_submodule(part).weight.mul_(-3)
        after = net(image(16, 16))
        assert torch.equal(before[1], after[1])
        assert (before[0] - after[0]).abs().max() > 1e-8

    @torch.no_grad()
    def test_given_routings_are_used_stage_by_stage(self) -> None:
        net = smallest_clusir(supervised_stages=2).double().eval()
        x = image(20, 20)
        routings = net.route(x)
        outputs, used = net(x, routings=routings, return_routing=True)
        assert all(torch.equal(a.prompt, b.prompt) for a, b in zip(routings, used, strict=True))
        torch.testing.assert_close(outputs[0], net(x)[0], atol=1e-12, rtol=0)
        swapped = (*routings[:4], *(r._replace(topk_indices=r.topk_indices.flip(1)) for r in routings[4:]))
        changed = net(x, routings=swapped)
        assert torch.equal(changed[1], outputs[1])
        assert (changed[0] - outputs[0]).abs().max() > 1e-9
        with pytest.raises(ValueError, match="routings must hold 8"):
            net(x, routings=routings[:4])

    def test_every_parameter_learns_from_the_losses_of_both_stages(self) -> None:
        net = smallest_clusir(supervised_stages=2)
        outputs, routings = net(image(32, 32).float(), return_routing=True)
        (sum(y.abs().mean() for y in outputs) + cm.load_balance_loss(routings)).backward()
        assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []

    def test_checkpointing_leaves_the_gradients(self) -> None:
        net = smallest_clusir(supervised_stages=2)
        gradients = []
        for enable in (False, True):
            net.set_grad_checkpointing(enable)
            net.zero_grad()
            sum(y.square().mean() for y in net(image(16, 16).float())).backward()
            gradients.append([parameter.grad.clone() for parameter in net.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))

    def test_a_number_of_stages_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="supervised_stages"):
            smallest_clusir(supervised_stages=0)


class TestStage:
    def test_features_of_an_earlier_stage_are_asked_for_or_refused(self) -> None:
        settings = {"num_heads": (1, 1, 1, 1), "embed_dim": 8}
        first, second = cm.ClusIRStage(4, **settings), cm.ClusIRStage(4, follows=True, **settings)
        x = torch.rand(1, 3, 16, 16)
        features = first(x)
        attended = features.decoded[0]
        second(x, attended=attended, earlier=features)
        with pytest.raises(ValueError, match="earlier"):
            second(x, attended=attended)
        with pytest.raises(ValueError, match="attended"):
            second(x, earlier=features)
        with pytest.raises(ValueError, match="attended"):
            first(x, attended=attended, earlier=features)

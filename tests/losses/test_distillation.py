"""A student's routing beside its teacher's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clusir_modules import PCGRM, Routing, distillation_loss


def routing_of(cluster_probs: Tensor) -> Routing:
    rest = cluster_probs.new_zeros(cluster_probs.shape[0], 1)
    return Routing(cluster_probs, rest + 1, rest, rest.long(), cluster_probs.unsqueeze(-1))


def random_probs(clusters: int) -> Tensor:
    return torch.randn(3, clusters, dtype=torch.float64).softmax(1)


class TestDistillation:
    def test_is_the_divergence_written_out(self) -> None:
        shown, own = ([random_probs(clusters) for clusters in (5, 2)] for _ in range(2))
        expected = 0.0
        for teacher, student in zip(shown, own):
            for t_row, s_row in zip(teacher.tolist(), student.tolist()):
                pairs = zip(torch.tensor(t_row).double(), torch.tensor(s_row).double())
                expected += sum(float(t * (t / s).log()) for t, s in pairs) / len(teacher) / len(shown)
        loss = distillation_loss([routing_of(p) for p in own], [routing_of(p) for p in shown])
        torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)

    def test_is_zero_for_equal_routings_and_finite_for_opposite_certainties(self) -> None:
        probs = random_probs(4)
        assert abs(float(distillation_loss(routing_of(probs), routing_of(probs)))) < 1e-12
        student = torch.eye(2).requires_grad_()
        loss = distillation_loss(routing_of(student), routing_of(torch.eye(2).flip(0)))
        loss.backward()
        assert 50 < float(loss.detach()) < 100
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()

    def test_the_teacher_gets_no_gradient_and_the_student_comes_near(self) -> None:
        student, teacher = (PCGRM(4, num_clusters=3, num_experts=2, top_k=1, embed_dim=8) for _ in range(2))
        x = torch.randn(8, 4, 3, 3)
        optimizer = torch.optim.Adam(student.parameters(), 0.02)
        losses = []
        for _ in range(40):
            optimizer.zero_grad()
            loss = distillation_loss(student(x), teacher(x))
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert losses[-1] < 0.3 * losses[0]

    def test_other_numbers_of_clusters_routers_or_images_are_refused(self) -> None:
        student = [routing_of(random_probs(4))]
        for teacher in (
            [routing_of(random_probs(5))],
            [routing_of(random_probs(4))] * 2,
            [routing_of(random_probs(4)[:1])],
        ):
            with pytest.raises(ValueError, match=r"equal numbers of clusters, got .*\[\(3, 4\)\] and"):
                distillation_loss(student, teacher)
        with pytest.raises(TypeError, match="must be a Routing or a sequence"):
            distillation_loss(student, None)  # type: ignore[arg-type]

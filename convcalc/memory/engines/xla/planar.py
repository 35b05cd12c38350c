"""What GPUs before compute capability 9 do otherwise: convolutions with channels first.

`layout_assignment.cc` (`HeuristicLayoutAssignment`): cuDNN gets images with channels last on Hopper
and later, and before on two-dimensional convolutions in 16 bits only; all others get one plane for
each channel.  Between such convolutions everything else follows, and images are transposed where
they come in, where they are flattened and where they go out.

A normalization's sums then run along rows, not along columns.  PriorityFusion computes what they
read anew in each of them, as long as there are rows enough to keep the GPU busy.
"""

from __future__ import annotations

from dataclasses import dataclass

from convcalc.memory.job import Job
from convcalc.network import Network
from convcalc.tensors import TensorSpec

#: Multiprocessors of the most common cards: NVIDIA T4 and A100 (their architecture whitepapers).
MULTIPROCESSORS = {7: 40, 8: 108}
#: Samples up to which one block of threads sums over all of them (`reduction_utils.h`,
#: `BatchedReductionRaceFreeBound`); more are summed one by one first, by as many blocks.
BATCHED = 8
#: Elements of a plane up to which a block has too few threads to compute what it sums.
SMALL_PLANE = 32 * 32
#: `matmul_utils.h`, `GemmConfig::kDefaultWorkspace`: cuBLAS' workspace, one for each product.
WORKSPACE = TensorSpec((4 << 20,), "bool", None)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a GPU lays out a network's images."""

    planar: bool = False
    """Convolutions run with channels first."""
    turns: bool = False
    """And the network has them last, so that images are transposed at its ends."""
    cublas: bool = False
    """Matrix products are cuBLAS', with a workspace: Triton's begin with Ampere."""
    busy: int = 0
    """Blocks of threads that keep the GPU busy."""
    batch: int = 1

    @classmethod
    def of(cls, net: Network, job: Job, batch: int) -> Layout:
        """The layout of a network's images for a job."""
        if job.capability is None:
            return cls()
        flat = all(len(spec.dims) <= 4 for spec in net.tensors.values())
        planar = job.width > 2 or not flat
        return cls(
            planar=planar,
            turns=planar and not net.channels_first,
            cublas=job.capability < 8,
            busy=MULTIPROCESSORS[job.capability],
            batch=batch,
        )

    def recomputed(self, channels: int, plane: int) -> bool:
        """Whether the sums of a normalization compute what they read, with channels first."""
        return self.batch > BATCHED or (channels >= self.busy and plane > SMALL_PLANE)

    def masked(self, channels: int, plane: int, last: bool) -> bool:
        """Whether a ReLU leaves a mask behind for them; one before an average always does."""
        return not self.recomputed(channels, plane) and (plane > SMALL_PLANE or last)

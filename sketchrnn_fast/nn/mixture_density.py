"""The decoder's head: the parameters of a mixture density over the next stroke, and its loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sketchrnn_fast import ops
from sketchrnn_fast.nn.initialisation import glorot_uniform_
from sketchrnn_fast.reference.mixture_density import Mixture, split_parameters


class MixtureDensity(nn.Module):
    """A linear map from hidden states to the parameters of the density of the next stroke.

    Args:
        input_size: width N of the hidden states.
        num_mixture: number K of Gaussians.
        device, dtype: of the weights.
    """

    def __init__(
        self,
        input_size: int,
        num_mixture: int = 20,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if input_size < 1 or num_mixture < 1:
            raise ValueError(
                f"MixtureDensity: input_size is {input_size} and num_mixture {num_mixture}; "
                "both must be at least 1"
            )
        self.linear = nn.Linear(input_size, 6 * num_mixture + 3, device=device, dtype=dtype)
        self.num_mixture = num_mixture
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform for the weight and, as in the original, for the bias too."""
        glorot_uniform_(self.linear.weight)
        glorot_uniform_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """The raw parameters [..., 6K+3] from hidden states [..., N]; columns as `split` names."""
        params: Tensor = self.linear(hidden)
        return params

    @staticmethod
    def split(params: Tensor) -> Mixture:
        """Raw parameters [..., 6K+3] by name, before softmax, exp and tanh."""
        return split_parameters(params)

    @staticmethod
    def loss(
        params: Tensor,
        target: Tensor,
        offset_weight: Tensor | None = None,
        pen_weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood of strokes, row by row.

        Args:
            params: raw parameters [..., 6K+3].
            target: stroke-5 rows [..., 5].
            offset_weight, pen_weight: [...], factors of the two losses; 1 if None.

        Returns:
            Offset and pen losses in nats, each [...].
        """
        shape = target.shape[:-1]
        ones = torch.ones(shape, dtype=target.dtype, device=target.device)
        offset, pen = ops.mixture_density(
            params.flatten(0, -2),
            target.flatten(0, -2),
            (ones if offset_weight is None else offset_weight).flatten(),
            (ones if pen_weight is None else pen_weight).flatten(),
        )
        return offset.view(shape), pen.view(shape)

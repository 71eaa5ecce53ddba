"""All peers of a recurrent layer, in the order of the tables."""

from __future__ import annotations

from peers import Peer
from peers.flash_rnn import FLASH_RNN
from peers.flax_rnn import FLAX
from peers.haste_lstm import HASTE
from peers.jax_scan import JAX
from peers.keras_lstm import KERAS
from peers.scripted import SCRIPTED
from peers.torch_eager import COMPILED, EAGER
from peers.torch_lstm import TORCH_LSTM

LAYER_PEERS: tuple[Peer, ...] = (
    EAGER,
    COMPILED,
    SCRIPTED,
    TORCH_LSTM,
    JAX,
    FLAX,
    KERAS,
    FLASH_RNN,
    HASTE,
)

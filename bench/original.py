"""The original at work, one task at a time, in a Python that has TensorFlow 2.

    PYTHON original.py CHECKOUT HPARAMS THREADS train BATCH
    PYTHON original.py CHECKOUT HPARAMS THREADS sample POINTS

CHECKOUT is a checkout of github.com/magenta/magenta, HPARAMS a JSON object of hyper-parameters,
THREADS the number of threads. The task is a training step on BATCH, an .npz file with `strokes` and
`lengths`, or the drawing of a sketch of POINTS points. Each line on standard input asks for it
once; the answer is a line of JSON with its result (the cost, or the number of points) and seconds.
`original_process` runs this, and nothing here imports this project.

From TensorFlow 2.16 on, the Keras on which the original's cells rest is a package of its own,
tf_keras.
"""

import json
import os
import sys
import time
import types
from pathlib import Path

import numpy as np


def main() -> None:
    checkout, hparams, threads, name, argument = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no answer
    tasks = {"train": training_step, "sample": drawing}
    task = tasks[name](Path(checkout), json.loads(hparams), int(threads), argument)
    for _ in sys.stdin:
        start = time.perf_counter()
        result = task()
        answers.write(json.dumps({"result": result, "seconds": time.perf_counter() - start}) + "\n")


def make_model(checkout, hparams, threads):
    """The original's module, a model with new weights, its hyper-parameters and a session."""
    tf, model_module = import_original(checkout)
    hps = model_module.get_default_hparams()
    hps.override_from_dict(hparams)
    model = model_module.Model(hps, gpu_mode=False)
    session = tf.Session(
        config=tf.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
        )
    )
    session.run(tf.global_variables_initializer())
    return model_module, model, hps, session


def drawing(checkout, hparams, threads, points):
    """A function that draws one sketch as the original does, a call of the framework a point."""
    one_step = {"is_training": False, "batch_size": 1, "max_seq_len": 1}
    off = dict.fromkeys(("use_recurrent_dropout", "use_input_dropout", "use_output_dropout"), False)
    module, model, _, session = make_model(checkout, {**hparams, **one_step, **off}, threads)
    return lambda: len(module.sample(session, model, seq_len=int(points))[0])


def training_step(checkout, hparams, threads, batch_file):
    """A function that takes one step on the batch, with what the original fetches each time."""
    _, model, hps, session = make_model(checkout, hparams, threads)
    with np.load(batch_file) as batch:
        feed = {
            model.input_data: batch["strokes"],
            model.sequence_lengths: batch["lengths"],
            model.lr: hps.learning_rate,
            model.kl_weight: hps.kl_weight_start,
        }
    fetches = [
        model.cost,
        model.r_cost,
        model.kl_cost,
        model.final_state,
        model.global_step,
        model.train_op,
    ]
    return lambda: float(session.run(fetches, feed)[0])


def import_original(checkout):
    """TensorFlow in its first version's behaviour, and the original's module of the model.

    Magenta's top-level module imports all of its projects and what they depend on; an empty one
    with the same path takes its place.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    magenta = types.ModuleType("magenta")
    magenta.__path__ = [str(checkout / "magenta")]
    sys.modules["magenta"] = magenta

    import tensorflow.compat.v1 as tf
    from magenta.models.sketch_rnn import model

    tf.disable_v2_behavior()
    return tf, model


if __name__ == "__main__":
    main()

"""Fine-tuning on one transfer set, by a paper's protocol.

    python -m ssl_jax.main --config configs/transfer/finetune.py --config.init=WORKDIR
    python -m ssl_jax.main --config configs/transfer/finetune.py:islam_full --config.init=WORKDIR

The argument names the protocol: ericsson (default; 5,000 steps, 20 points, augmentation or none,
Ericsson et al. 2021, arXiv:2011.13377), islam_linear, islam_full (12 points, 20 and 50 epochs,
Islam et al. 2021, arXiv:2103.13517), semi_1_percent or semi_10_percent (Chen et al. 2020,
arXiv:2002.05709; with --config.set=imagenet the published lists). `steps`, `batch_size` and
`candidates` (places in the grid) shorten a protocol; results.json says so.
"""

from ml_collections import ConfigDict

PROTOCOLS = ("ericsson", "islam_linear", "islam_full", "semi_1_percent", "semi_10_percent")


def get_config(protocol: str = "ericsson") -> ConfigDict:
  if protocol not in PROTOCOLS:
    raise ValueError(f"protocol {protocol!r} is not known; write one of {', '.join(PROTOCOLS)}")
  return ConfigDict({
      "task": "finetune", "init": "", "seed": 0, "data_dir": "", "set": "fashion_mnist_mini",
      "protocol": protocol, "steps": 0, "batch_size": 0, "candidates": ()})

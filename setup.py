"""What pyproject.toml cannot say: the wheel holds configs/ as ssl_jax/shipped/configs."""

from setuptools import find_namespace_packages, find_packages, setup

CONFIGS = ["configs", *(f"configs.{name}" for name in find_namespace_packages("configs"))]
SHIPPED = {f"ssl_jax.shipped.{name}": name.replace(".", "/") for name in CONFIGS}

setup(packages=[*find_packages(include=["ssl_jax*"]), *SHIPPED], package_dir=SHIPPED)

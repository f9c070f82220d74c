"""Packaging: `pip install .` gives `python -m ige` with all its configs."""

import pathlib
import re

from setuptools import find_namespace_packages, setup

ROOT = pathlib.Path(__file__).resolve().parent

# Read, not imported: ige may need what is not installed yet.
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "ige" / "__init__.py").read_text("utf-8"), re.MULTILINE
)[1]

setup(
    name="ige",
    version=VERSION,
    description="Deep-learning research on 3D human poses and shapes, configured by gin files",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # A folder without __init__.py is a package too: none may be missing from the wheel.
    packages=[
        *find_namespace_packages(include=["ige", "ige.*"], exclude=["*.__pycache__"]),
        "ige.config",
    ],
    # In a checkout the gin files are in config/, beside ige/; in the wheel they are in ige/config/.
    package_dir={"ige.config": "config"},
    package_data={
        "": ["*.html", "*.json", "*.md", "*.tsv", "*.txt"],
        "ige.config": ["**/*.gin"],
    },
    install_requires=[
        "absl-py>=2.1",
        # Casts rays, through trimesh; 14 MB and as fast as Open3D, which has 400.
        "embreex>=4.4",
        "gin-config>=0.5",
        "h5py>=3.11",
        "keras>=3.15",
        "matplotlib>=3.11",
        "numpy>=2",
        "pillow>=11",
        "plotly>=6",
        # Marching cubes.
        "scikit-image>=0.25",
        "scipy>=1.14",
        # TensorFlow 2.21 does not bring it, but tf.summary.scalar raises without it.
        "tensorboard>=2.21",
        "tensorflow>=2.21",
        "tensorflow-datasets>=4.9.10",
        "tqdm>=4.66",
        "trimesh>=5.2",
        "typeguard>=4.4",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.21"],
        "beam": ["apache-beam>=2.77"],
        # For the comparisons in benchmarks/ only.
        "benchmarks": ["open3d>=0.19", "torch==2.13.0"],
        "dev": [
            # Reads the BVH files that ige writes.
            "bvhio>=1.5",
            # Writes the CDF files that the tests read.
            "cdflib>=1.3",
            # tensorflow-datasets' test case for builders serialises with it.
            "dill>=0.3.8",
            "hypothesis>=6.100",
            "packaging>=24",
            # Looks at web pages with the Chromium of the system.
            "playwright>=1.50",
            "pytest>=8",
            # Uses both processors.
            "pytest-xdist>=3.6",
            "ruff>=0.12",
            "setuptools>=77",
            "wheel>=0.45",
        ],
    },
)

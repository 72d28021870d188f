"""Package metadata and dependencies; linters and tests are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ["engine", "loaders", "models", "tools"]

setup(
    name="egopose-engine",
    version="0.1.0",
    description="Data loading and training engine for egocentric 3D human pose (xR-EgoPose)",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    keywords=["egocentric vision", "human pose estimation", "fisheye", "xR-EgoPose", "data loading", "DALI", "PyTorch"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=[*PACKAGES, *(f"{name}.*" for name in PACKAGES)]),
    package_data={"": ["*.css", "*.csv", "*.j2", "*.js", "py.typed"]},
    install_requires=[
        "av>=18",
        "jinja2",
        "kornia-rs",
        "llvmlite",
        "matplotlib",
        "numba",
        "numpy",
        "nvidia-dali-cuda130>=2.4; sys_platform == 'linux'",
        "opencv-python-headless",
        "packaging",
        "pillow",
        "pyyaml",
        "requests",
        "simplejpeg",
        "tensorboard",
        "torch>=2.11",
        "torchvision",
        "tqdm",
        "tyro==1.0.17",  # engine/cli/parse_errors.py takes its parse errors, whose form may change with any release
        "urllib3>=2",
        "webdataset",
        "zlib-ng",
    ],
    extras_require={
        # for CUDA 12 drivers: the same Python API, built for the older toolkit
        "cuda12": ["nvidia-dali-cuda120>=2.0; sys_platform == 'linux'"],
        "cluster": ["dask[distributed]"],
        "hdf5": ["h5py"],  # examples/mo2cap2.py
        "export": ["onnx", "onnxruntime", "onnxscript"],
        "parquet": ["pyarrow"],
        "timm": ["timm"],
        # mlflow-skinny with a local database; trackio wants a pillow older than constraints.txt has
        "trackers": ["alembic", "mlflow-skinny>=3", "sqlalchemy", "wandb"],
        "docs": ["mkdocs-material", "mkdocstrings-python"],
        "dev": [
            "hypothesis",
            "import-linter",
            "ipykernel",
            "mypy",
            "nbclient",
            "nbformat",
            "playwright",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "scikit-image",
            "setuptools>=77",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
)

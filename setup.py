"""Package metadata and dependencies; linters and tests are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="egopose-engine",
    version="0.1.0",
    description="Data loading and training engine for egocentric 3D human pose (xR-EgoPose)",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["engine*", "loaders*", "models*", "tools*"]),
    package_data={"engine.report": ["*.css", "*.j2"], "tools.browsing": ["*.css", "*.j2", "*.js"]},
    install_requires=[
        "av>=18",
        "jinja2",
        "kornia-rs",
        "matplotlib",
        "numba",
        "numpy",
        "nvidia-dali-cuda130>=2.4; sys_platform == 'linux'",
        "opencv-python-headless",
        "pillow",
        "pyyaml",
        "simplejpeg",
        "tensorboard",
        "torch>=2.11",
        "torchvision",
        "tqdm",
        "tyro==1.0.17",  # engine/cli/parse_errors.py takes its parse errors, whose form may change with any release
        "webdataset",
        "zlib-ng",
    ],
    extras_require={
        # for CUDA 12 drivers: the same Python API, built for the older toolkit
        "cuda12": ["nvidia-dali-cuda120>=2.0; sys_platform == 'linux'"],
        "cluster": ["dask[distributed]"],
        "export": ["onnx", "onnxruntime", "onnxscript"],
        "parquet": ["pyarrow"],
        "docs": ["mkdocs-material", "mkdocstrings-python"],
        "dev": [
            "hypothesis",
            "import-linter",
            "ipykernel",
            "mypy",
            "nbclient",
            "playwright",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "scikit-image",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
)

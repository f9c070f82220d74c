"""Synsets of ShapeNet, and models that nobody can use."""

R2N2_SYNSETS = {
    "02691156": "plane",
    "02828884": "bench",
    "02933112": "cabinet",
    "02958343": "car",
    "03001627": "chair",
    "03211117": "display",
    "03636649": "lamp",
    "03691459": "speaker",
    "04090263": "rifle",
    "04256520": "sofa",
    "04379243": "table",
    "04401088": "telephone",
    "04530566": "watercraft",
}
"""The thirteen that papers on reconstruction use."""

EXCLUDED = {
    ("04090263", "4a32519f44dc84aabafe26e2eb69ebf4"),
    ("03624134", "67ada28ebc79cc75a056f196c127ed77"),
    ("04074963", "b65b590a565fa2547e1c85c5c15da7fb"),
}
"""Models of ShapeNetCore.v1 that are published as empty or broken."""

SPLITS = ("train", "validation", "test")

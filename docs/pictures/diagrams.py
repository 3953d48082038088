"""How the parts work and hang together, as diagrams; the directive ``diagram`` shows them by name."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ._diagram import Box, Diagram


def _house() -> Diagram:
    """The floors that ``lint-imports`` holds, read from where it reads them."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    contracts = {contract["name"]: contract for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]}
    floors = ["basicsr_plugin | clusir_cli", *contracts["library: floors"]["layers"]]
    rows = [[Box(name, name, "part") for name in floor.split(" | ")] for floor in floors]
    return Diagram("The packages in floors, top to bottom: " + "; ".join(floors), [_broken(row) for row in rows])


def _broken(row: list[Box]) -> list[Box]:
    return [
        box._replace(text=box.text.replace("serialization", "seriali-\nzation") if len(row) > 3 else box.text)
        for box in row
    ]


DIAGRAMS = {
    "house": _house(),
    "clusir": Diagram(
        "ClusIR: four encoder levels on the left, three decoder levels on the right, prompts between them",
        [
            [Box("image", "image (B, 3, H, W)", "data"), Box("restored", "restored (B, 3, H, W)", "data")],
            [Box("first", "3x3 convolution"), Box("last", "3x3 convolution, + image")],
            [
                Box("l1", "level 1\nWTB ...\nClusterMoE (PCGRM)", "part"),
                Box("d1", "decoder 1\nup, + skip\nDAFMM, WTB ...", "part"),
            ],
            [Box("l2", "level 2, at 1/2\nthe same", "part"), Box("d2", "decoder 2\nthe same", "part")],
            [Box("l3", "level 3, at 1/4\nthe same", "part"), Box("d3", "decoder 3\nthe same", "part")],
            [Box("l4", "level 4, at 1/8, the same", "part")],
            [Box("tokens", "prompts p1, p2, p3 and p4 of the routers", "data")],
            [Box("fusion", "PromptFusion: p1, p2, p3 ask p4", "part")],
            [Box("pgb", "PGB: a prompt for the DAFMM of each decoder", "part")],
        ],
        [
            ("image", "first"),
            ("first", "l1"),
            ("l1", "l2"),
            ("l2", "l3"),
            ("l3", "l4"),
            ("l4", "d3"),
            ("l1", "d1"),
            ("l2", "d2"),
            ("l3", "d3"),
            ("d3", "d2"),
            ("d2", "d1"),
            ("d1", "last"),
            ("last", "restored"),
            ("l4", "tokens"),
            ("l1", "tokens", "left"),
            ("l2", "tokens", "left"),
            ("l3", "tokens", "left"),
            ("tokens", "fusion"),
            ("fusion", "pgb"),
            ("pgb", "d1", "right"),
            ("pgb", "d2", "right"),
            ("pgb", "d3", "right"),
        ],
    ),
    "pcgrm": Diagram(
        "PCGRM: pooled features become a posterior over clusters, and with it a distribution over experts and a prompt",
        [
            [Box("x", "x (B, C, H, W)", "data")],
            [Box("pool", "mean over H and W, W, normalize")],
            [Box("z", "z (B, D)", "data")],
            [Box("cos", "cosines with P (L, D)\n/ tau, softmax"), Box("gate", "G (L, E, D)\nsoftmax")],
            [Box("clusters", "cluster_probs (B, L)", "data"), Box("each", "p(e|c, x) (B, L, E)", "data")],
            [Box("weigh", "x P"), Box("mix", "sum over clusters")],
            [Box("prompt", "prompt (B, L, D)", "data"), Box("experts", "expert_probs (B, E)", "data")],
            [Box("free", ""), Box("top", "the k largest")],
            [Box("free2", ""), Box("chosen", "topk_weights (B, k)\ntopk_indices (B, k)", "data")],
        ],
        [
            ("x", "pool"),
            ("pool", "z"),
            ("z", "cos"),
            ("z", "gate"),
            ("cos", "clusters"),
            ("gate", "each"),
            ("clusters", "weigh"),
            ("clusters", "mix"),
            ("each", "mix"),
            ("weigh", "prompt"),
            ("mix", "experts"),
            ("experts", "top"),
            ("top", "chosen"),
        ],
    ),
    "cluster_moe": Diagram(
        "ClusterMoE: the router chooses experts, their weighted sum and a shared expert are added to the input",
        [
            [Box("x", "x (B, C, H, W)", "data")],
            [Box("router", "PCGRM", "part"), Box("norm", "norm")],
            [Box("chosen", "weights, indices (B, k)", "data"), Box("shared", "shared expert")],
            [Box("experts", "k gathered experts")],
            [Box("sum", "weighted sum, + shared, + x")],
            [Box("y", "y (B, C, H, W)", "data")],
        ],
        [
            ("x", "router"),
            ("x", "norm"),
            ("router", "chosen"),
            ("norm", "shared"),
            ("chosen", "experts"),
            ("norm", "experts", "right"),
            ("shared", "sum", "right"),
            ("experts", "sum"),
            ("x", "sum", "left"),
            ("sum", "y"),
        ],
    ),
    "wtb": Diagram(
        "WTB: attention and feed-forward on the low band, which gates the three detail bands",
        [
            [Box("x", "x (B, C, H, W)", "data")],
            [Box("dwt", "wavelet transform")],
            [Box("ll", "LL (B, C, h, w)", "data"), Box("details", "LH HL HH (B, 3C, h, w)", "data")],
            [Box("attention", "norm, attention, +"), Box("depthwise", "depthwise 3x3")],
            [Box("norm", "norm"), Box("gate", "times 1x1 of the norm")],
            [Box("ffn", "feed-forward, +"), Box("out", "1x1 per band")],
            [Box("low", "1x1"), Box("free", "")],
            [Box("idwt", "inverse transform")],
            [Box("sum", "+ x")],
            [Box("y", "y (B, C, H, W)", "data")],
        ],
        [
            ("x", "dwt"),
            ("dwt", "ll"),
            ("dwt", "details"),
            ("ll", "attention"),
            ("details", "depthwise"),
            ("attention", "norm"),
            ("depthwise", "gate"),
            ("norm", "gate"),
            ("norm", "ffn"),
            ("gate", "out"),
            ("ffn", "low"),
            ("low", "idwt"),
            ("out", "idwt"),
            ("idwt", "sum"),
            ("x", "sum", "left"),
            ("sum", "y"),
        ],
    ),
    "dafmm": Diagram(
        "DAFMM: a low and a high band, each modulated by the prompt, attend to each other and are added to the input",
        [
            [Box("x", "x (B, C, H, W)", "data")],
            [Box("low", "low = K * x"), Box("high", "high = x - low")],
            [Box("fft", "Fourier transform\ntimes gain\nand back"), Box("gate", "depthwise\ntimes gate")],
            [Box("attention", "attention, both ways")],
            [Box("mix", "1x1, times gamma, + x")],
            [Box("y", "y (B, C, H, W)", "data")],
            [Box("prompt", "K, gain and gate come from\nthe prompt m (B, P, H, W), if there is one", "data")],
        ],
        [
            ("x", "low"),
            ("x", "high"),
            ("low", "high"),
            ("low", "fft"),
            ("high", "gate"),
            ("fft", "attention"),
            ("gate", "attention"),
            ("attention", "mix"),
            ("x", "mix", "left"),
            ("mix", "y"),
        ],
    ),
    "prompts": Diagram(
        "PromptFusion: the tokens of a level ask those of the deepest level; PGB mixes learned maps by what they found",
        [
            [Box("p_l", "p_l (B, L_l, D)", "data"), Box("p_4", "p_4 (B, L_4, D)", "data")],
            [Box("norm_l", "norm"), Box("norm_4", "norm")],
            [Box("attention", "attention: query left, key and value right")],
            [Box("s", "s_l (B, L_l, D), with the left norm added", "data")],
            [Box("weights", "sum, norm, A, softmax"), Box("maps", "V (N, C, S, S)", "data")],
            [Box("w", "w (B, N)", "data"), Box("free", "")],
            [Box("mix", "mix, 3x3, resize")],
            [Box("m", "m (B, C, H, W)", "data")],
        ],
        [
            ("p_l", "norm_l"),
            ("p_4", "norm_4"),
            ("norm_l", "attention"),
            ("norm_4", "attention"),
            ("attention", "s"),
            ("norm_l", "s", "left"),
            ("s", "weights"),
            ("weights", "w"),
            ("w", "mix"),
            ("maps", "mix"),
            ("mix", "m"),
        ],
    ),
    "mprnet": Diagram(
        "MPRNet: three stages on quarters, halves and the whole picture; each hands on features by CSFF and SAM",
        [
            [Box("image", "degraded image (B, 3, H, W)", "data")],
            [Box("s1", "stage 1: four quarters\nencoder, decoder"), Box("x1", "X1, with a loss", "data")],
            [Box("csff1", "CSFF, 3 levels", "part"), Box("sam1", "SAM: gated by X1", "part")],
            [Box("s2", "stage 2: two halves\nencoder, decoder"), Box("x2", "X2, with a loss", "data")],
            [Box("csff2", "CSFF, 3 levels", "part"), Box("sam2", "SAM: gated by X2", "part")],
            [Box("s3", "stage 3: all of it\nORSNet, full resolution"), Box("x3", "X3, with a loss", "data")],
        ],
        [
            ("image", "s1"),
            ("image", "s2", "left"),
            ("image", "s3", "left"),
            ("s1", "x1"),
            ("s2", "x2"),
            ("s3", "x3"),
            ("s1", "csff1"),
            ("x1", "sam1"),
            ("csff1", "s2"),
            ("sam1", "s2"),
            ("s2", "csff2"),
            ("x2", "sam2"),
            ("csff2", "s3"),
            ("sam2", "s3"),
        ],
    ),
    "sam": Diagram(
        "SAM: features make a restored picture, which says by a sigmoid what of the features goes on",
        [
            [Box("f", "features F (B, C, H, W)", "data"), Box("i", "image I (B, 3, H, W)", "data")],
            [Box("map", "1x1"), Box("picture", "1x1 of F, + I")],
            [Box("free", ""), Box("x", "restored X, with a loss", "data")],
            [Box("free2", ""), Box("sigmoid", "1x1, sigmoid")],
            [Box("gate", "times, + F")],
            [Box("out", "F\u2032 to the next stage", "data")],
        ],
        [
            ("f", "map"),
            ("i", "picture"),
            ("f", "picture"),
            ("picture", "x"),
            ("x", "sigmoid"),
            ("sigmoid", "gate"),
            ("map", "gate"),
            ("f", "gate", "left"),
            ("gate", "out"),
        ],
    ),
    "losses": Diagram(
        "The loss: L1 and MS-SSIM of the picture, and regularizers of the router, weighted and summed",
        [
            [Box("net", "net(lq, return_routing=True)", "part")],
            [
                Box("restored", "restored\nbeside gt", "data"),
                Box("routings", "routings\nof all levels", "data"),
                Box("prototypes", "prototypes", "data"),
            ],
            [
                Box("pixels", "L1MSSSIM-\nLoss"),
                Box("balance", "load_balance_,\ncluster_infor-\nmation_loss"),
                Box("orthogonal", "orthogo-\nnality_loss"),
            ],
            [Box("one", "times 1"), Box("two", "times 0.01"), Box("three", "times 0.01")],
            [Box("loss", "loss, their sum", "data")],
        ],
        [
            ("net", "restored"),
            ("net", "routings"),
            ("net", "prototypes"),
            ("restored", "pixels"),
            ("routings", "balance"),
            ("prototypes", "orthogonal"),
            ("pixels", "one"),
            ("balance", "two"),
            ("orthogonal", "three"),
            ("one", "loss"),
            ("two", "loss"),
            ("three", "loss"),
        ],
    ),
    "restore": Diagram(
        "restore: the whole picture is routed once, tiles are restored with that routing and blended",
        [
            [Box("picture", "picture", "data")],
            [Box("parts", "up to 16 parts\nof 256 pixels"), Box("tiles", "tiles of 512 pixels,\n32 of them shared")],
            [Box("route", "route"), Box("free", "")],
            [Box("routing", "Routing of the whole", "data"), Box("free2", "")],
            [Box("net", "network, tile by tile")],
            [Box("blend", "blend")],
            [Box("result", "picture of the same kind", "data")],
        ],
        [
            ("picture", "parts"),
            ("picture", "tiles"),
            ("parts", "route"),
            ("route", "routing"),
            ("routing", "net"),
            ("tiles", "net"),
            ("net", "blend"),
            ("blend", "result"),
        ],
    ),
    "wavelets": Diagram(
        "A wavelet transform: filters along the rows, then down the columns, give four bands",
        [
            [Box("x", "x (B, C, H, W)", "data")],
            [Box("rows", "rows: h, g")],
            [Box("columns", "columns: h, g")],
            [Box("ll", "ll (B, C, h, w)", "data"), Box("details", "details (B, C, 3, h, w)\nLH, HL, HH", "data")],
        ],
        [("x", "rows"), ("rows", "columns"), ("columns", "ll"), ("columns", "details")],
    ),
    "data": Diagram(
        "The data set: a file of a task, a random patch, a degradation, an item",
        [
            [Box("task", "Task: name, folders, degradation or pairing", "part")],
            [Box("file", "a file, by epoch and index")],
            [Box("patch", "random patch, mirrored, rotated")],
            [Box("degradation", "degradation(image, generator)")],
            [Box("item", "item: lq, gt (3, H, W) float32 in [0, 1],\ntask, task_id, lq_path, gt_path", "data")],
        ],
        [("task", "file"), ("file", "patch"), ("patch", "degradation"), ("degradation", "item")],
    ),
}


def draw(folder: Path) -> None:
    """Write ``diagram_NAME.svg`` for each."""
    for name, diagram in DIAGRAMS.items():
        (folder / f"diagram_{name}.svg").write_text(diagram.svg(name), encoding="utf-8")

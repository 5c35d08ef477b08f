"""What a chapter builds equals what the package holds: its definitions are run and compared."""

import ast
import contextlib

import nbformat
import pytest
import torch

from s3rnet_lite import Degradation, baselines, cka, degradation, energy, metrics, sensors
from s3rnet_lite.course.notebooks import FOLDER
from s3rnet_lite.network import dfab, mbfn, ssawb
from s3rnet_lite.network.s3rnet import S3RNetConfig

SMALL = S3RNetConfig(width=8, growth=4, residual_groups=(1, 1, 2, 1))


def definitions(chapter: str) -> dict:
    """Execute a chapter's imports, functions, classes and UPPERCASE constants, exercises left out;
    nothing else of it runs.
    """
    [path] = FOLDER.glob(f"{chapter}_*.ipynb")
    namespace: dict = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code" or {"solution", "check"} & set(cell.metadata.get("tags", [])):
            continue
        lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
        kept = [node for node in ast.parse("\n".join(lines)).body if is_definition(node)]
        for node in kept:
            with contextlib.suppress(NameError):  # a default value that the chapter computes
                exec(compile(ast.Module([node], []), path.name, "exec"), namespace)
    return namespace


def is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        targets = [part for target in node.targets for part in ast.walk(target)]
        upper = all(part.id.isupper() for part in targets if isinstance(part, ast.Name))
        return upper and isinstance(node.value, (ast.Constant, ast.Tuple, ast.UnaryOp))
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


def assert_same_module(built: torch.nn.Module, ours: torch.nn.Module, *inputs: torch.Tensor):
    for parameter in ours.parameters():  # also those that start at zero or one
        torch.nn.init.normal_(parameter, std=0.1)
    built.load_state_dict(ours.state_dict())
    torch.testing.assert_close(built(*inputs), ours(*inputs), atol=1e-5, rtol=1e-4)


def test_chapter_01_builds_the_sensors(indian_pines):
    built = definitions("01")
    for sigma, scale in ((1.7, 4), (0.8, 3), (2.0, 2)):
        for name, arguments in {
            "gaussian_psf": (sigma, scale),
            "blur_and_decimate_matrix": (10 * scale, sigma, scale),
        }.items():
            ours = getattr(degradation, name)(*arguments)
            torch.testing.assert_close(built[name](*arguments), ours)
    x = torch.rand(3, 8, 8)
    ours = degradation.noise_deviation(x, 20)
    assert float(built["noise_sigma"](x, 20)) == pytest.approx(float(ours))
    nm, fwhm = indian_pines.wavelengths_nm.numpy(), indian_pines.fwhm_nm.numpy()
    ours = sensors.landsat_tm(nm, bands=6, fwhm_nm=fwhm)
    for row, number in zip(ours, sensors.LANDSAT_TM_BANDS[6], strict=True):
        measured = sensors.landsat_tm_responses()[number]
        weights, _ = built["spectral_response"](nm, fwhm, *measured)
        torch.testing.assert_close(torch.as_tensor(weights).float(), row, atol=1e-6, rtol=0)


def test_chapter_02_builds_the_metrics_and_a_fusion():
    built = definitions("02")
    y = torch.rand(6, 16, 20) + 0.1
    y_hat = y + 0.1 * torch.randn_like(y)
    for name, argument in (
        ("psnr", "band"),
        ("psnr", "max"),
        ("psnr", 1.0),
        ("rmse", 17.2),
        ("ergas", 3),
    ):
        ours = getattr(metrics, name)(y_hat, y, argument)
        assert float(built[name](y_hat, y, argument)) == pytest.approx(ours, rel=1e-5)
    y[:, 0, 0] = 0
    assert float(built["sam"](y_hat, y)) == pytest.approx(metrics.sam(y_hat, y), abs=1e-3)

    degrade = Degradation(srf=torch.rand(3, 6).softmax(1))
    x_h, x_m = degrade(y)
    for name in ("detail_injection", "mtf_glp"):
        ours = baselines.METHODS[name](x_h, x_m, degrade)
        torch.testing.assert_close(built[name](x_h, x_m, degrade), ours, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_chapter_03_builds_the_dfab(kernel_size):
    arguments, x = (8, 4, kernel_size), torch.randn(2, 8, 9, 7)
    assert_same_module(definitions("03")["DFAB"](*arguments), dfab.DFAB(*arguments), x)


@pytest.mark.parametrize("groups", [1, 2])
def test_chapter_04_builds_the_groups_and_a_branch(groups):
    built, x = definitions("04"), torch.randn(2, 8, 9, 7)
    arguments = (8, 4, 2, 3, groups)  # width, growth, blocks, kernel, groups
    assert_same_module(built["ResidualGroup"](*arguments), mbfn.ResidualGroup(*arguments), x)
    ours = mbfn.Branch(5, 8, 4, 2, 3, 3, groups)
    assert_same_module(built["Branch"](5, 8, 4, 2, groups), ours, x[:, :5])


def test_chapter_04_builds_the_four_branches():
    x_h, x_m = torch.randn(2, 6, 4, 5), torch.randn(2, 3, 16, 20)
    built = definitions("04")["MBFN"](6, 3, scale=4, width=8, growth=4, q_groups=2)
    ours = mbfn.MBFN(6, 3, 4, 8, 4, (4, 4, 6, 6), 3, 3, 2, "nearest")
    built.load_state_dict(ours.state_dict())
    for ours_feature, feature in zip(ours(x_h, x_m), built(x_h, x_m), strict=True):
        torch.testing.assert_close(feature, ours_feature)


@pytest.mark.parametrize("normalise", [False, True])
def test_chapter_05_builds_the_attention_and_the_gates(normalise):
    built = definitions("05")
    features = torch.randn(4, 2, 8, 9, 7)
    assert_same_module(
        built["ChannelAttention"](8, 2, 4, normalise),
        ssawb.ChannelAttention(8, 2, 4, normalise),
        *features[:3],
    )
    for gate_bias in (None, 2.0):
        assert_same_module(
            built["SSAWB"](8, 2, 4, normalise, gate_bias),
            ssawb.SSAWB(8, 2, 4, normalise, gate_bias),
            *features,
        )


@pytest.mark.parametrize("unbiased", [False, True])
def test_chapter_08_builds_the_cka(unbiased):
    a, b = torch.randn(60, 5), torch.randn(60, 9)
    b[:, :5] += a
    built = definitions("08")["cka_by_hand"](a, b, unbiased)
    assert built == pytest.approx(cka.linear_cka(a, b, unbiased), rel=1e-5)


def test_chapter_07_builds_the_channel_energy():
    built, x = definitions("07"), torch.randn(2, 12, 5, 6)
    shares = energy.channel_energy(x)
    torch.testing.assert_close(built["channel_energy"](x).double(), shares)
    assert built["gini"](shares) == pytest.approx(energy.gini(shares), rel=1e-5)


def test_chapter_11_builds_the_noise():
    x, built = torch.rand(5, 8, 9), definitions("11")["with_noise"]
    ours = degradation.add_noise(x, 20.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(built(x, 20.0, torch.Generator().manual_seed(0)), ours)

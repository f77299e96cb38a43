"""Procedural painters: built-in data in which brushwork identifies the painter.

A painter is a `Style` drawn from (seed, artist). A painting is a subject drawn from (seed, artist,
painting) in a light of day, repainted stroke by stroke in its painter's style. Palettes overlap,
and subject and light shift all colors, so that color alone does not identify the painter.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# The store that `prepare synthetic` writes by default, and that training on STORE makes by itself.
STORE, STORE_IMAGE_SIZE = "data/synthetic", 64
ARTISTS, PAINTINGS = 80, 20
# Pictures are painted with this side and resized last, so that all sizes show the same one.
CANVAS = 256
# Of the main layer. With more, some paintings take over 25 ms; where strokes lack, the scene shows.
MAX_STROKES = 1000


def _rgb(names: str) -> np.ndarray:
    return np.array([list(bytes.fromhex(name)) for name in names.split()]) / 255


# The last two, white and black, are on every palette.
PIGMENTS_NxC = _rgb(
    "f8e2a0 ecbaac a8c8d2 facc3e e8aa30 ce9a46 b67438 984a2c de4c30 c63a58 704a86 3462b2 5ca0c6"
    " 48a096 246c5a 628036 8e8e54 949296 30388e 583e30 3e495c f4efe0 221e26"
)
# Natural colors of what is painted; each thing draws one.
NATURE = {
    "field": _rgb("96a04b cdaf55 6e8c41 b98750"), "hill": _rgb("788caf 9687a5 7d9b96 6e8c50"),
    "sea": _rgb("326996 3c878c 5078a5"), "sun": _rgb("ffeb96 ffb45a faf5e1"),
    "leaf": _rgb("3c6937 648732 2d554b c8782d"), "wood": _rgb("55402d 3c2823 824f2d"),
    "wall": _rgb("e1cdaa ebe1d2 c88c6e beaa96"), "roof": _rgb("b44b32 824137 555a73"),
    "room": _rgb("6e8282 a0735a 5a5a78 b9a573 82463c"), "dark": _rgb("2d2832 372d28 232d41"),
    "cloth": _rgb("dcd7cd 3c558c 962d2d 506e50 c8a046"), "skin": _rgb("e6b996 c8916e f0cdb4"),
    "fruit": _rgb("d7412d f0a532 ebd250 8ca53c 823c5f"),
}  # fmt: skip
# Times of day: the upper sky, the sky at the horizon, and the light on everything.
DAYS_DxTxC = _rgb(
    "5a91d2 c8dce6 ffffff 96a0cd fad7aa fff5dc 6e5f96 f58c50 ffd2be 232d64 5a6eaa a0aae1"
    " a5aab4 d7d4cd dce2ee 6eaab4 ebe6b4 ffffe6"
).reshape(6, 3, 3)
# Things in parts: shape, color, center x and y, half width and height, in sizes of the thing.
THINGS = {
    "sun": "ball sun 0 0 .5 .5", "boat": "peak cloth .1 -.9 .5 .8, oval wood 0 0 .75 .2",
    "hill": "oval hill 0 .2 1.5 .6", "tree": "box wood 0 -.4 .09 .6, ball leaf 0 -1.2 .5 .75",
    "house": "box wall 0 -.4 .5 .55, peak roof 0 -1.25 .65 .35, box dark -.2 -.4 .12 .18,"
    " box dark .2 -.4 .12 .18",
    "fruit": "oval dark .15 -.1 .5 .25, ball fruit 0 -.4 .45 .45",
    "vase": "ball leaf 0 -1.7 .65 .5, ball fruit -.4 -1.8 .27 .27, ball sun .1 -2.1 .25 .25,"
    " ball fruit .45 -1.65 .27 .27, box cloth 0 -1 .2 .4, ball cloth 0 -.5 .5 .6",
    "head": "oval wood 0 -2.15 .75 .95, ball cloth 0 .1 1.4 1.1, box skin 0 -1.1 .24 .4,"
    " ball skin 0 -2 .55 .75, oval dark -.22 -2.1 .1 .06, oval dark .22 -2.1 .1 .06,"
    " oval roof 0 -1.62 .22 .08",
    "shapes": "oval fruit -.1 -.4 .6 .6, box cloth .4 .2 .3 .7, peak sea -.3 .5 .5 .4",
}  # fmt: skip
# Subjects: the ground, then things with their size, fewest, most, and row below the horizon.
SUBJECTS = (
    ("field", "sun .2 1 1 -.28, hill .4 2 3 .06, tree .24 2 4 .1, tree .28 1 3 .36"),
    ("field", "sun .16 1 1 -.32, hill .3 1 3 .02, house .22 2 5 .06, house .27 1 4 .34"),
    ("sea", "sun .2 1 1 -.22, boat .16 1 4 .06, boat .26 1 2 .26"),
    ("room", "vase .27 1 1 .12, fruit .24 1 3 .16, fruit .26 2 4 .32"),
    ("room", "head .33 1 1 .42"), ("room", "shapes .26 2 3 -.2, shapes .22 1 4 .22"),
)  # fmt: skip


def _band(*half_widths: float) -> np.ndarray:
    there_Ux2 = np.stack([np.linspace(-1, 1, len(half_widths)), half_widths], axis=1)
    return np.concatenate([there_Ux2, there_Ux2[::-1] * (1, -1)])


ROUND = np.sqrt(1 - np.linspace(-1, 1, 13) ** 2)
OUTLINES = {"box": _band(1, 1), "oval": _band(*ROUND), "peak": _band(0, 1)[:, ::-1]}
OUTLINES["ball"] = OUTLINES["oval"]
# A ball is four ovals, each smaller, lighter and nearer to the light: shade, size.
SHADES = {"ball": ((0.65, 1.0), (0.85, 0.84), (1.05, 0.6), (1.3, 0.3))}
# Brushes: outline of a stroke, its width in sides of the picture, length / width, bend, wobble.
BRUSHES = {
    "dab": (_band(*ROUND[::2]), 0.045, 1.6, 0, 0.1), "bar": (_band(1, 1), 0.04, 3, 0, 0.1),
    "dot": (_band(*ROUND[::2]), 0.034, 1, 0, 0), "tile": (_band(1, 1), 0.045, 1.1, 0, 0.05),
    "hatch": (_band(*ROUND[::3]), 0.016, 8, 0.02, 0), "facet": (_band(0.5, 1, 0.4), 0.1, 1, 0, 0.3),
    "leaf": (_band(*ROUND[::3]), 0.045, 2.6, 0.08, 0),
    "ribbon": (_band(*ROUND[1::2]), 0.027, 5, 0.1, 0),
}  # fmt: skip
# Directions of strokes from the painter's angle, places, lightness, and lightness's normal.
FIELDS = {
    "slant": lambda angle, x, y, *_: angle + 0 * x,
    "cross": lambda angle, x, y, *_: angle + np.pi / 2 * (np.arange(len(x)) % 2),
    "swirl": lambda angle, x, y, *_: 1.7 * (np.sin(6 * x + angle) + np.sin(6 * y - angle)),
    "rays": lambda angle, x, y, *_: np.arctan2(y - 0.5, x - 0.5),
    "rings": lambda angle, x, y, *_: np.arctan2(y - 0.5, x - 0.5) + 0.5 * np.pi,
    "contour": lambda angle, x, y, tone, normal: normal + np.pi / 2,
    "planes": lambda angle, x, y, tone, normal: angle + np.floor(6 * tone) * 2.4,
    "wild": lambda angle, x, y, *_: 2.4 * np.arange(len(x)),
}
# Surfaces: weave of the canvas, grain, relief of the paint, and blur in pixels of the canvas.
TEXTURES = {"weave": (0.11, 0.1, 0, 0), "grain": (0, 0.3, 0, 0), "impasto": (0, 0, 0.3, 0),
            "glaze": (0, 0, 0, 2.5), "plain": (0, 0, 0, 0)}  # fmt: skip


def _drawn(method: str, *arguments) -> Any:
    return dataclasses.field(metadata={"draw": lambda rng: getattr(rng, method)(*arguments)})


@dataclasses.dataclass(frozen=True)
class Style:
    """What all paintings of one painter share, each field with how it is drawn."""

    brush: str = _drawn("choice", list(BRUSHES))
    width: float = _drawn("uniform", 0.8, 1.25)  # times the brush's usual width
    field: str = _drawn("choice", list(FIELDS))
    angle: float = _drawn("uniform", -1.6, 1.6)
    texture: str = _drawn("choice", list(TEXTURES))
    contour: float = _drawn("choice", (0.0, 0.0, 0.8))  # darkness of drawn contours
    broken_color: float = _drawn("choice", (0.02, 0.04, 0.065))  # spread of the strokes' colors
    pigments: Sequence[int] = _drawn("choice", len(PIGMENTS_NxC) - 2, 7, False)
    pull: float = _drawn("uniform", 0.3, 0.65)  # how far the palette overrules nature
    light: float = _drawn("uniform", -2.8, -0.3)  # direction that light comes from
    key: float = _drawn("choice", (0.0, 0.0, 0.0, 0.2))  # how far all is lifted toward white
    vignette: float = _drawn("choice", (0.0, 0.0, 0.9))
    horizon: float = _drawn("uniform", 0.42, 0.62)
    crowd: float = _drawn("uniform", 0, 1)
    spread: float = _drawn("choice", (0.0, 0.4, 0.4))  # of things around a symmetric order
    figure: float = _drawn("uniform", 0.8, 1.2)  # size of things


class _Scene:
    """A subject in flat mixed colors, in unit coordinates with y pointing down."""

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        self.rng, self.style = rng, style
        self.palette_PxC = PIGMENTS_NxC[[*rng.choice(style.pigments, 4), -2, -1]]
        day_TxC = rng.choice(DAYS_DxTxC)
        self.sky_2xC, self.light_C = day_TxC[:2], day_TxC[2] * rng.uniform(0.8, 1.15)
        self.image = Image.new("RGB", (CANVAS, CANVAS))

    def color(self, name: str) -> np.ndarray:
        return self.rng.choice(NATURE[name]) * self.light_C * self.rng.uniform(0.9, 1.1)

    def fill(self, outline_Vx2: np.ndarray, color_C: np.ndarray) -> None:
        """Fills an outline with a mixture: near pigments weigh most, lightness is half kept."""
        distance_P = ((self.palette_PxC - color_C) ** 2).sum(1)
        weight_P = np.exp((distance_P.min() - distance_P) / 0.02)
        pigment_C = weight_P @ self.palette_PxC / weight_P.sum()
        pigment_C = pigment_C + 0.5 * (color_C.mean() - pigment_C.mean())
        mixed_C = np.clip(color_C + self.style.pull * (pigment_C - color_C), 0, 1)
        ink = tuple((mixed_C * 255).astype(int).tolist())
        ImageDraw.Draw(self.image).polygon((outline_Vx2 * CANVAS).ravel().tolist(), fill=ink)

    def thing(self, name: str, place_2: np.ndarray, size: float) -> None:
        colors: dict[str, np.ndarray] = {}
        for shape, color, *numbers in map(str.split, THINGS[name].split(",")):
            color_C = colors.setdefault(color, self.color(color))
            offset_2, half_2 = np.array(numbers, float).reshape(2, 2) * size
            toward_2 = 0.7 * half_2 * (np.cos(self.style.light), np.sin(self.style.light))
            for shade, part in SHADES.get(shape, ((1.0, 1.0),)):
                center_2 = place_2 + offset_2 + toward_2 * (1 - part)
                self.fill(OUTLINES[shape] * half_2 * part + center_2, color_C * shade)


def _subject(rng: np.random.Generator, style: Style) -> Image.Image:
    """Draws one of the subjects with the painter's habits of composition."""
    scene = _Scene(rng, style)
    ground, things = SUBJECTS[rng.integers(len(SUBJECTS))]
    horizon = style.horizon + rng.uniform(-0.06, 0.06)
    back_2xC, front_C = scene.sky_2xC, scene.color("cloth" if ground == "room" else ground)
    if ground == "room":
        back_2xC = scene.color("room") * [[0.8], [1.2]]
    steps, rise_C = np.linspace(0, 1, 8), back_2xC[1] - back_2xC[0]
    bands = [(step * horizon, back_2xC[0] + step * rise_C) for step in steps]
    bands += [(horizon + step * (1 - horizon), front_C * (1.1 - 0.35 * step)) for step in steps]
    for y, color_C in bands:
        scene.fill(OUTLINES["box"] + (0, 1 + y), color_C)
    for name, *numbers in map(str.split, things.split(",")):
        size, fewest, most, row = map(float, numbers)
        count = round(fewest + (most - fewest) * style.crowd)
        for x in (np.arange(count) + 0.5 + style.spread * rng.uniform(-1, 1, count)) / count:
            place_2 = np.array([0.05 + 0.9 * x, horizon + row])
            scene.thing(name, place_2, size * style.figure * rng.uniform(0.85, 1.15))
    return scene.image


def _strokes(rng: np.random.Generator, style: Style, scene, slope_2xSxS) -> Image.Image:
    """Repaints a scene from broad to fine strokes; alpha holds how thick each stroke lies."""
    outline_Vx2, width, aspect, bend, wobble = BRUSHES[style.brush]
    side = int(min(2 / (width**2 * aspect), MAX_STROKES) ** 0.5)
    # In each layer one stroke per cell of a grid, in random order.
    sides, xy_Nx2 = (side // 2, side, side * 2), np.empty((0, 2))
    for n in sides:
        cell_Nx2 = np.stack(np.divmod(rng.permutation(n * n), n), axis=1)
        xy_Nx2 = np.append(xy_Nx2, (cell_Nx2 + rng.random((n * n, 2))) / n, axis=0)
    width_N = style.width * width * np.repeat((1.8, 1.0, 0.6), np.square(sides))
    # The finest strokes go where there is something to see.
    column_N, row_N = (xy_Nx2 * CANVAS).astype(int).T
    seen_N = np.hypot(*slope_2xSxS[:, row_N, column_N]) > 0.02
    seen_N[: -((side * 2) ** 2)] = True
    (x_N, y_N), row_N, column_N = xy_Nx2[seen_N].T, row_N[seen_N], column_N[seen_N]
    color_NxC, count = np.asarray(scene)[row_N, column_N] / 255, len(x_N)
    normal_N = np.arctan2(*slope_2xSxS[:, row_N, column_N])
    angle_N = FIELDS[style.field](style.angle, x_N, y_N, color_NxC.mean(1), normal_N)
    turn_N = np.exp(1j * (angle_N + rng.normal(0, 0.15, count))) * width_N[seen_N] / 2
    along_VxN, across_VxN = (outline_Vx2 + rng.normal(0, wobble, (count, *outline_Vx2.shape))).T
    across_VxN += aspect * rng.normal(0, 2 * bend, count) * (along_VxN**2 - 0.4)
    stroke_VxN = turn_N * (aspect * along_VxN + 1j * across_VxN)
    points_NxV = np.ascontiguousarray((stroke_VxN + x_N + 1j * y_N).T) * CANVAS
    # Strokes stray in lightness more than in hue.
    color_NxC += rng.normal(0, style.broken_color, (count, 3)) @ (np.eye(3) + 0.4)
    ink_Nx4 = np.append(np.clip(color_NxC, 0, 1), rng.uniform(0.2, 1, (count, 1)), axis=1)
    inks = (ink_Nx4 * 255).astype(int).tolist()
    image = scene.convert("RGBA")
    draw = ImageDraw.Draw(image)
    for points, ink in zip(points_NxV.view(float).tolist(), inks, strict=True):
        draw.polygon(points, fill=tuple(ink))
    return image


def _finish(rng: np.random.Generator, style: Style, image: Image.Image, slope_2xSxS) -> np.ndarray:
    """Adds the surface, drawn contours, vignette and key to the strokes."""
    weave, grain, relief, blur = TEXTURES[style.texture]
    paint_SxSx4 = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), np.float32) / 255
    x_S = np.linspace(-0.5, 0.5, CANVAS, dtype=np.float32)
    noise = Image.fromarray(rng.integers(0, 256, (80, 80), np.uint8)).resize((CANVAS, CANVAS))
    height_SxS = paint_SxSx4[..., 3]
    light_SxS = 1 + weave * np.sin(150 * x_S) * np.sin(150 * x_S[:, None])
    light_SxS += grain * (np.asarray(noise, np.float32) / 255 - 0.5)
    light_SxS += relief * (height_SxS - np.roll(height_SxS, (3, 3), (0, 1)))
    light_SxS *= 1 - style.contour * np.clip(np.hypot(*slope_2xSxS) * 25 - 0.4, 0, 1)
    light_SxS *= 1 - style.vignette * 1.4 * (x_S**2 + x_S[:, None] ** 2)
    painted_SxSxC = paint_SxSx4[..., :3] * light_SxS[..., None]
    return painted_SxSxC + style.key * (1 - painted_SxSxC)


def artist_name(artist: int) -> str:
    """Returns the name of painter number `artist`.

    >>> artist_name(7)
    'painter-007'
    """
    return f"painter-{artist:03d}"


def paint(*, seed: int, artist: int, painting: int, size: int) -> np.ndarray:
    """Returns a painting as uint8 pixels (size, size, 3), the same on every call.

    Another `seed` has other painters; `artist` and `painting` count from 0; `size` is the side in
    pixels, and all sizes show the same picture.

    >>> paint(seed=0, artist=3, painting=1, size=64).shape
    (64, 64, 3)
    """
    # Tags keep the streams apart: NumPy pads seeds with zeros, so (1, 2) is (1, 2, 0).
    rng = np.random.default_rng((seed, artist, 0, 1))
    style = Style(**{f.name: f.metadata["draw"](rng) for f in dataclasses.fields(Style)})
    rng = np.random.default_rng((seed, artist, painting, 2))
    scene = _subject(rng, style)
    soft_SxS = np.asarray(scene.convert("L").filter(ImageFilter.GaussianBlur(3)), np.float32)
    slope_2xSxS = np.array(np.gradient(soft_SxS / 255))
    strokes = _strokes(rng, style, scene, slope_2xSxS)
    painted_SxSxC = np.clip(_finish(rng, style, strokes, slope_2xSxS), 0, 1)
    canvas = Image.fromarray((painted_SxSxC * 255).astype(np.uint8))
    return np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS))


def contact_sheet(
    *, seed: int, artists: int, paintings: int, size: int, gap: int = 4
) -> Image.Image:
    """Returns a sheet with a row per painter and a column per painting, `gap` pixels apart."""
    step = size + gap
    sheet = Image.new("RGB", (paintings * step + gap, artists * step + gap), "white")
    for artist, painting in np.ndindex(artists, paintings):
        image = Image.fromarray(paint(seed=seed, artist=artist, painting=painting, size=size))
        sheet.paste(image, (painting * step + gap, artist * step + gap))
    return sheet

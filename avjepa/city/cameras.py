"""Pictures: one ray a pixel, shaded by sun, sky, lamps and air."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from avjepa.city.materials import Material, ground_colours, surface_table
from avjepa.city.records import Calibration
from avjepa.city.weather import Weather
from avjepa.city.world import Hits, World
from avjepa.geometry.camera import unproject

SHADOW_LIFT_M = 0.03
WINDOW_M = (3.0, 3.3)  # of a façade, width and height of a bay
HEADLIGHT_RANGE_M = 26.0
LAMP_GAP_M = 27.0
CONTRAST, BLACK = 1.0, 0.03  # of the camera's curve


def photograph(
    world: World, camera: Calibration, town_T_ego: np.ndarray, weather: Weather, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The image, the distance and the thing at each pixel.

    Args:
        world: with all things placed for the moment of exposure.
        camera: mounting and intrinsics.
        town_T_ego: pose at the moment of exposure.
        weather: light and air.
        rng: sensor noise.

    Returns:
        (H, W, 3) uint8 RGB, (H, W) float32 metres along the ray (inf for sky), (H, W) int32 of world things.
    """
    height, width = camera.size_px
    directions_ego = _pixel_directions(camera)
    directions = (directions_ego @ town_T_ego[:3, :3].T).astype(np.float32)
    centre = (town_T_ego[:3, :3] @ camera.ego_T_sensor[:3, 3] + town_T_ego[:3, 3]).astype(np.float32)
    hits = world.cast(np.broadcast_to(centre, directions.shape), directions)
    seen, empty = np.flatnonzero(hits.any), np.flatnonzero(~hits.any)
    radiance = np.empty((len(directions), 3), dtype=np.float32)
    radiance[empty] = _sky(directions[empty], weather)
    radiance[seen] = _shade(world, hits, seen, directions[seen], centre, town_T_ego, weather)
    image = _develop(radiance.reshape(height, width, 3), weather, rng)
    return image, hits.distance_m.reshape(height, width), hits.thing.reshape(height, width)


def _pixel_directions(camera: Calibration) -> np.ndarray:
    """(H * W, 3) unit vectors in the ego frame."""
    height, width = camera.size_px
    u, v = np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float))
    uv = np.stack([u, v], -1).reshape(-1, 2)
    rays = unproject(camera.pix_T_cam, uv, np.ones(len(uv))) @ camera.ego_T_sensor[:3, :3].T
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _sky(directions: np.ndarray, weather: Weather) -> np.ndarray:
    """(R, 3): paler towards the horizon, clouds, a glow around the sun."""
    up = directions[:, 2].clip(0, 1)[:, None] ** 0.6
    sky = weather.horizon_rgb * (1 - up) + weather.zenith_rgb * up
    flat = directions[:, :2] / (directions[:, 2:].clip(0.03) + 0.12)
    clouds = _noise(flat[:, 0] * 9, flat[:, 1] * 9)[:, None]
    sky = sky * (1 + 0.22 * clouds * up)
    if weather.has_shadows:
        glow = (directions @ weather.sun).clip(0, 1)[:, None]
        sky = sky + weather.sun_rgb * (0.3 * glow**24 + 3.0 * glow**1500)
    return sky.astype(np.float32)


def _shade(world: World, hits: Hits, seen, directions, centre, town_T_ego, weather: Weather) -> np.ndarray:
    """Light that R seen surfaces send to the lens, (R, 3)."""
    xyz, normal, material = hits.xyz[seen], hits.normal[seen], hits.material[seen]
    distance = hits.distance_m[seen]
    albedo, is_lit_window = _albedo(world, hits, seen)
    sun = (normal @ weather.sun.astype(np.float32)).clip(0, 1)
    if weather.has_shadows:
        facing = np.flatnonzero(sun > 0)
        origins = xyz[facing] + normal[facing] * SHADOW_LIFT_M
        shadowed = world.blocked(origins, weather.sun)
        sun[facing[shadowed]] = 0.0
    sky_share = (0.5 + 0.5 * normal[:, 2]) * (0.55 + 0.45 * np.clip(xyz[:, 2] / 3, 0, 1) + 0.45 * (normal[:, 2] > 0.7))
    light = sun[:, None] * weather.sun_rgb + sky_share[:, None] * weather.sky_rgb
    if weather.headlights:
        light = light + _lamps(xyz, normal, distance, town_T_ego, weather)
    radiance = albedo * light
    facing = np.einsum("ri,ri->r", directions, normal)
    gloss = surface_table("gloss")[material]
    grazing = (1 - np.abs(facing)).clip(0, 1) ** 3
    gloss = np.where(material == Material.GROUND, weather.wetness * (0.06 + 0.55 * grazing), gloss * (0.5 + grazing))
    glossy = np.flatnonzero(gloss > 0)
    mirror = directions[glossy] - 2 * facing[glossy, None] * normal[glossy]
    share = gloss[glossy, None]
    radiance[glossy] = radiance[glossy] * (1 - 0.5 * share) + share * _sky(mirror, weather)
    if weather.headlights:
        shining = (material == Material.LAMP) | (material == Material.TAIL_LAMP)
        radiance = np.where(shining[:, None], albedo * 1.6, radiance)
        radiance = np.where(is_lit_window[:, None], np.array([0.62, 0.50, 0.28]), radiance)
    clear = np.exp(-3.0 * distance / weather.visibility_m)[:, None]
    return (radiance * clear + weather.horizon_rgb * (1 - clear)).astype(np.float32)


def _albedo(world: World, hits: Hits, seen) -> tuple[np.ndarray, np.ndarray]:
    """Colour (R, 3) with texture, and which façade windows are lit at night (R,)."""
    material, ground, xyz, normal = hits.material[seen], hits.ground[seen], hits.xyz[seen], hits.normal[seen]
    is_ground = material == Material.GROUND
    colour = np.where(is_ground[:, None], ground_colours()[ground], world.colours[hits.face[seen]] / np.float32(255))
    flat = np.abs(normal[:, 2]) > 0.7
    along = np.where(flat, xyz[:, 0], xyz[:, 1] * normal[:, 0] - xyz[:, 0] * normal[:, 1])
    upward = np.where(flat, xyz[:, 1], xyz[:, 2])
    noise = 0.6 * _noise(along * 12, upward * 12) + 0.4 * _noise(along * 1.1 + 40, upward * 1.1)
    amplitude = surface_table("texture")[material] * np.where(hits.distance_m[seen] < 40, 1.0, 0.6)
    colour = colour * (1 + amplitude * noise)[:, None]
    column, row = np.floor(along / WINDOW_M[0]), np.floor((upward - 0.15) / WINDOW_M[1])
    u, v = along / WINDOW_M[0] - column, (upward - 0.15) / WINDOW_M[1] - row
    is_wall = (material == Material.WALL) & ~flat
    window = is_wall & (u > 0.22) & (u < 0.78) & (v > 0.3) & (v < 0.82) & (upward > 0.8)
    frame = window & ((u < 0.26) | (u > 0.74) | (v < 0.34) | (v > 0.78) | (np.abs(u - 0.5) < 0.02))
    pane = window & ~frame
    colour = np.where(pane[:, None], np.array([0.13, 0.17, 0.22]), np.where(frame[:, None], 0.8, colour))
    lit = pane & (np.sin(column * 12.9898 + row * 78.233) * 43758.5453 % 1.0 < 0.3)
    return colour.clip(0, 1).astype(np.float32), lit


def _lamps(xyz, normal, distance, town_T_ego, weather: Weather) -> np.ndarray:
    """Own headlights and street lamps, (R, 3)."""
    ego = (xyz - town_T_ego[:3, 3]) @ town_T_ego[:3, :3]
    ahead = ego[:, 0].clip(0.1)
    beam = (ego[:, 0] > 2) * np.exp(-((ego[:, 1] / (0.35 * ahead + 1.5)) ** 2)) * np.exp(-ahead / HEADLIGHT_RANGE_M)
    beam = beam * np.exp(-np.clip(ego[:, 2] - 0.9, 0, 20) / 1.2)
    # Pools of light at the pitch of the lamp posts, wherever in town: cheap, and bright enough to see by.
    pool = (0.5 + 0.5 * np.cos(xyz[:, 0] * 2 * np.pi / LAMP_GAP_M)) * (
        0.5 + 0.5 * np.cos(xyz[:, 1] * 2 * np.pi / LAMP_GAP_M)
    )
    pool = 0.30 * pool * np.exp(-np.clip(xyz[:, 2], 0, 30) / 6) * (0.4 + 0.6 * normal[:, 2].clip(0, 1))
    strength = 1.0 if weather.name == "night" else 0.25
    return strength * (0.9 * beam[:, None] * [1.0, 0.96, 0.85] + pool[:, None] * [1.0, 0.82, 0.55])


def _develop(radiance: np.ndarray, weather: Weather, rng: np.random.Generator) -> np.ndarray:
    """Blur of the lens, drops in the rain, vignette, noise, the curve of the camera; (H, W, 3) uint8."""
    height, width = radiance.shape[:2]
    sigma = 0.45 * width / 400
    image = cv2.GaussianBlur(np.ascontiguousarray(radiance, np.float32), (0, 0), max(sigma, 0.3))
    if weather.wetness > 0.5:
        image = _wet_lens(image, rng)
    v, u = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    image = image * (weather.exposure * (1 - 0.12 * (u * u + v * v)))[..., None]
    image = (image / (1 + 0.18 * image)).clip(0, 1) ** (1 / 1.7)
    image = image + CONTRAST * image * (1 - image) * (2 * image - 1)  # the S of a camera's curve
    image = image + rng.standard_normal(image.shape, dtype=np.float32) * weather.noise
    return ((BLACK + (1 - BLACK) * image).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _wet_lens(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drops on the glass: blurred spots."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), dtype=np.float32)
    for _ in range(14):
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(mask, centre, max(int(rng.uniform(0.006, 0.02) * width), 1), 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 1.0)[..., None]
    return image * (1 - mask) + cv2.GaussianBlur(image, (0, 0), 0.02 * width) * mask


@lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    """(512, 512) smooth noise that repeats, in about [-1, 1]."""
    rng = np.random.default_rng(5)
    tile = np.zeros((512, 512), dtype=np.float32)
    for cells in (32, 64, 128, 256, 512):
        coarse = rng.standard_normal((cells, cells)).astype(np.float32)
        tile += (
            cv2.resize(np.pad(coarse, 2, mode="wrap"), None, fx=512 / cells, fy=512 / cells)[
                2 * 512 // cells : 2 * 512 // cells + 512, 2 * 512 // cells : 2 * 512 // cells + 512
            ]
            * (8 / cells) ** 0.5
        )
    return (tile / tile.std() / 2).clip(-1, 1)


def _noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    tile = _noise_tile()
    return tile[np.floor(v).astype(np.int64) & 511, np.floor(u).astype(np.int64) & 511]

"""Light and air."""

from __future__ import annotations

import numpy as np
import pytest

from avjepa.city.weather import NAMES, make_weather


def weathers(name):
    return [make_weather(name, np.random.default_rng(seed)) for seed in range(10)]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_physical(name):
    for weather in weathers(name):
        assert weather.name == name
        assert np.linalg.norm(weather.sun) == pytest.approx(1)
        assert weather.sun[2] > 0
        for light in (weather.sun_rgb, weather.sky_rgb, weather.zenith_rgb, weather.horizon_rgb):
            assert light.shape == (3,)
            assert (light >= 0).all()
        assert 0 <= weather.wetness <= 1
        assert weather.visibility_m > 200
        assert weather.exposure > 0


def test_weathers_differ_as_they_should():
    day, rain, dusk, night, overcast = (weathers(name)[0] for name in NAMES)
    assert night.sky_rgb.max() < 0.2 * min(w.sky_rgb.min() for w in (day, rain, dusk, overcast))
    assert night.sun_rgb.max() == 0
    assert dusk.sun[2] < 0.25 < day.sun[2]
    assert dusk.sun_rgb[0] > 2 * dusk.sun_rgb[2]  # red
    assert [w.has_shadows for w in (day, rain, dusk, night, overcast)] == [True, False, True, False, False]
    assert [w.headlights for w in (day, rain, dusk, night, overcast)] == [False, True, True, True, False]
    assert rain.rain_miss > 0 == day.rain_miss
    assert rain.wetness > 0.5 > day.wetness
    assert rain.visibility_m < min(w.visibility_m for w in (day, dusk, night, overcast))
    assert night.noise > day.noise


def test_the_rng_chooses_the_hour():
    one, again, other = (make_weather("day", np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.sun, again.sun)
    assert not np.allclose(one.sun, other.sun)


def test_an_unknown_weather_is_refused():
    with pytest.raises(ValueError, match="day, rain, dusk, night, overcast"):
        make_weather("snow", np.random.default_rng(0))

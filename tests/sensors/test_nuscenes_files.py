import cv2
import numpy as np
import pytest

from avjepa.errors import BadFileError
from avjepa.geometry.camera import resize_pixels
from avjepa.sensors.nuscenes_files import image_size, read_image, read_lidar


def write_points(path, points):
    np.asarray(points, dtype=np.float32).tofile(path)
    return path


def test_lidar_is_read_and_scaled(tmp_path):
    points, not_finite = read_lidar(write_points(tmp_path / "a.pcd.bin", [[1, 2, 3, 255, 7], [4, 5, 6, 51, 8]]))
    np.testing.assert_allclose(points, [[1, 2, 3, 1], [4, 5, 6, 0.2]])
    assert not_finite == 0


def test_points_that_are_not_finite_are_counted(tmp_path):
    path = write_points(tmp_path / "a.pcd.bin", [[1, 2, 3, 4, 5], [np.nan, 2, 3, 4, 5], [1, np.inf, 3, 4, 5]])
    points, not_finite = read_lidar(path)
    assert len(points) == 1
    assert not_finite == 2


def test_empty_cloud_is_legal(tmp_path):
    points, not_finite = read_lidar(write_points(tmp_path / "a.pcd.bin", np.zeros((0, 5))))
    assert points.shape == (0, 4)
    assert not_finite == 0


@pytest.mark.parametrize("cut", [1, 4, 19])
def test_truncated_lidar_names_the_file(tmp_path, cut):
    path = write_points(tmp_path / "a.pcd.bin", np.ones((10, 5)))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(BadFileError, match=r"a\.pcd\.bin: truncated"):
        read_lidar(path)


def test_missing_files_name_the_file(tmp_path):
    with pytest.raises(BadFileError, match=r"b\.pcd\.bin: cannot be read"):
        read_lidar(tmp_path / "b.pcd.bin")
    with pytest.raises(BadFileError, match=r"b\.jpg: cannot be read"):
        read_image(tmp_path / "b.jpg", (90, 160), (1, 1))


@pytest.fixture
def photo(tmp_path):
    image = np.zeros((90, 160, 3), np.uint8)
    image[:, 80:] = (0, 0, 250)  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "p.jpg"), image)
    return tmp_path / "p.jpg"


@pytest.mark.parametrize(
    ("least", "reduction"), [((90, 160), 1), ((45, 80), 2), ((46, 80), 1), ((20, 40), 4), ((1, 1), 8)]
)
def test_image_is_rgb_and_decoded_as_small_as_allowed(photo, least, reduction):
    image, found = read_image(photo, (90, 160), least)
    assert found == reduction
    assert image.shape[:2] == (-(-90 // reduction), 160 // reduction)
    assert image[0, -1, 0] > 200
    assert image[0, -1, 2] < 60


def test_size_from_the_header(photo):
    assert image_size(np.fromfile(photo, np.uint8)) == (90, 160)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_truncated_jpeg_is_found(photo, share):
    content = photo.read_bytes()
    photo.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadFileError, match=r"p\.jpg: truncated JPEG"):
        read_image(photo, (90, 160), (1, 1))


def test_image_of_another_size_than_its_calibration_is_refused(photo):
    with pytest.raises(BadFileError, match=r"p\.jpg: 160 x 90 px, its table says 1600 x 900"):
        read_image(photo, (900, 1600), (1, 1))


def test_a_reduced_image_shows_the_same_view(tmp_path):
    """The centre of a bright square is where ``resize_pixels(1 / reduction)`` puts it, in a picture of odd size."""
    image = np.zeros((93, 165, 3), np.uint8)
    image[40:56, 88:104] = 255  # centre (95.5, 47.5)
    cv2.imwrite(str(tmp_path / "p.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    for reduction in (2, 4, 8):
        reduced, found = read_image(tmp_path / "p.jpg", (93, 165), (93 // reduction, 165 // reduction))
        assert found == reduction
        assert reduced.shape[:2] == (-(-93 // reduction), -(-165 // reduction))
        weight = reduced[..., 0].astype(float)
        v, u = np.mgrid[: weight.shape[0], : weight.shape[1]]
        centre = np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()
        expected = (resize_pixels(1 / reduction, 1 / reduction) @ [95.5, 47.5, 1])[:2]
        np.testing.assert_allclose(centre, expected, atol=0.05)


def test_garbage_is_no_image(photo):
    photo.write_bytes(b"\xff\xd8" + bytes(range(200)) + b"\xff\xd9")
    with pytest.raises(BadFileError, match="not a readable image"):
        read_image(photo, (90, 160), (1, 1))
    photo.write_bytes(b"")
    with pytest.raises(BadFileError, match="truncated"):
        read_image(photo, (90, 160), (1, 1))

"""SHA256SUMS of a folder: every altered, missing or added file is named."""

import pytest

from painterjax.common import checksums


@pytest.mark.parametrize(
    ("name", "data", "damage"),
    [
        ("a", b"", {}),
        ("sub/b", b"B", {"sub/b": "has changed"}),
        ("sub/b", None, {"sub/b": "is missing"}),
        ("c", b"", {"c": "is new"}),
        ("SHA256SUMS", None, {"SHA256SUMS": "is missing"}),
        ("SHA256SUMS", b"", {"a": "is new", "sub/b": "is new"}),
    ],
)
def test_damage_to_a_sealed_folder_is_named(tmp_path, name, data, damage):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "sub" / "b").write_bytes(b"b")
    assert not checksums.is_sealed(tmp_path)
    checksums.seal(tmp_path)
    assert checksums.is_sealed(tmp_path)
    if data is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(data)
    assert checksums.damage(tmp_path) == damage

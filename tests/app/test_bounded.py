"""What is kept of pictures for browsers: made once, and never more bytes than are allowed."""

from app.services import cache
from app.services.bounded import BoundedCache


def test_what_is_kept_is_dropped_by_its_key_and_replaced_in_its_place():
    kept = BoundedCache(100, len)
    kept.keep("a", bytes(40))
    kept.keep("b", bytes(40))
    kept.keep("a", bytes(60))
    assert kept.held == 100 and len(kept) == 2
    kept.drop(lambda key: key == "a")
    assert kept.find("a") is None and kept.find("b") == bytes(40) and kept.held == 40
    kept.keep("c", bytes(101))
    assert kept.find("c") is None and kept.held == 40


def test_a_picture_is_made_once_until_others_need_its_room(monkeypatch):
    monkeypatch.setenv("DPI_CACHE_BYTES", str(100 * cache.RESULTS_PER_PICTURE))
    cache._pictures.clear()
    made = []

    def picture(name):
        def make():
            made.append(name)
            return name.encode() * 30

        return cache._packed(False, (name,), make)

    try:
        assert picture("a") == picture("a") == b"a" * 30 and made == ["a"]
        for name in "bc":
            picture(name)
        picture("a")  # is used again, so that b goes first
        picture("d")
        assert cache._pictures().held == 90
        for name in "acdb":
            picture(name)
        assert made == ["a", "b", "c", "d", "b"]
    finally:
        cache._pictures.clear()

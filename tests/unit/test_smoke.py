def test_set_and_get(make):
    m = make()
    m["a"] = b"x"
    assert m["a"] == b"x"
    assert m.check() == []

"""URLs, headers and bodies with arguments in braces."""

from typing import Any

import pytest

from apps.tools.template import fill_headers, fill_json, fill_url, problem_with_url, query_of
from apps.tools.tool import CallFailed

HOST = "https://api.example.com"


@pytest.mark.parametrize(
    "url",
    [
        HOST, f"{HOST}/", f"{HOST}:8443/a/{{id}}", f"{HOST}?q={{q}}", "http://[2001:db8::1]:80/x", "HTTPS://a.b/c",
        "http://box/a%20b", f"{HOST}/items/{{item-id}}.json?filter%5Bname%5D={{filter_name}}&fixed=1",
    ],
)  # fmt: skip
def test_url_template_is_taken(url: str) -> None:
    assert problem_with_url(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "", "api.example.com", "ftp://a/b", "file:///etc/passwd", "//a/b", "https://", "https:///x", "http://{host}/x",
        "{scheme}://a/b", "https://a.{tld}/", "https://user:pw@a/", "https://{user}@a/", "https://a:{port}/",
        "https://a/b c", "https://a/b#c", "https://a/b?c#d", "https://a\\@b/", "https://a/\\b", "https://a/{", "https://a/{}",
        "https://a/{1}", "https://a/{b c}", "https://a/{{b}}", "https://a/b\n", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_url_template_is_refused_with_the_reason(url: str) -> None:
    assert problem_with_url(url).endswith((".", "{item_id}."))


@pytest.mark.parametrize(
    ("template", "arguments", "url"),
    [
        ("/items/{id}", {"id": 7}, "/items/7"),
        ("/items/{id}", {"id": "a/b?c#d&e=f g%2F"}, "/items/a%2Fb%3Fc%23d%26e%3Df%20g%252F"),
        ("/items/{id}", {"id": "ünï"}, "/items/%C3%BCn%C3%AF"),
        ("/items/{id}", {"id": "@evil.net:80"}, "/items/%40evil.net%3A80"),
        ("/items/{id}", {"id": "{other}", "other": "x"}, "/items/%7Bother%7D"),
        ("/items/{ids}", {"ids": [1, 2]}, "/items/1%2C2"),
        ("/a{id}b/{id}", {"id": "."}, None),
        ("/a{id}b", {"id": ".."}, "/a..b"),
        ("/x", {"unused": 1}, "/x"),
        ("", {}, "/"),
        ("/s?q={q}", {"q": "a b&c=d#e"}, "/s?q=a%20b%26c%3Dd%23e"),
        ("/s?q={q}&n={n}", {"n": 2}, "/s?n=2"),
        ("/s?q={q}", {}, "/s"),
        ("/s?q={q}", {"q": None}, "/s"),
        ("/s?q={q}", {"q": ""}, "/s?q="),
        ("/s?q={q}", {"q": True}, "/s?q=true"),
        ("/s?q={q}", {"q": ["a", "b&c"]}, "/s?q=a&q=b%26c"),
        ("/s?q={q}", {"q": {"a": 1}}, "/s?q=%7B%22a%22%3A1%7D"),
        ("/s?q=pre-{q}&fixed=1", {"q": "x"}, "/s?q=pre-x&fixed=1"),
        ("/s?flag&f%5Bx%5D={q}", {"q": "1"}, "/s?flag&f%5Bx%5D=1"),
        ("/ü?ü={q}", {"q": "1"}, "/%C3%BC?%C3%BC=1"),
    ],
)
def test_arguments_stay_in_their_place(template: str, arguments: dict[str, Any], url: str | None) -> None:
    if url is None:
        with pytest.raises(CallFailed):
            fill_url(HOST + template, arguments)
    else:
        assert fill_url(HOST + template, arguments) == HOST + url


@pytest.mark.parametrize("value", ["", None, ".", "..", []])
def test_part_of_a_path_cannot_be_empty_or_lead_upwards(value: Any) -> None:
    with pytest.raises(CallFailed) as failed:
        fill_url(f"{HOST}/items/{{id}}", {"id": value})

    assert failed.value.outcome == "invalid_arguments"


def test_arguments_without_a_place_become_a_query() -> None:
    assert (
        query_of({"a b": "c d", "n": [1, 2], "none": None, "o": {"x": 1}}) == "a%20b=c%20d&n=1&n=2&o=%7B%22x%22%3A1%7D"
    )


def test_header_is_filled_and_left_out_without_its_argument() -> None:
    templates = {"X-Lang": "{lang}", "X-Both": "{lang}-{region}", "X-Fixed": "1"}

    assert fill_headers(templates, {"lang": "de"}) == {"X-Lang": "de", "X-Fixed": "1"}


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "\0", "\x7f"])
def test_header_takes_no_control_characters(value: str) -> None:
    with pytest.raises(CallFailed) as failed:
        fill_headers({"X-Lang": "{lang}"}, {"lang": value})

    assert failed.value.outcome == "invalid_arguments"


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ({"n": "{n}", "text": "{text}"}, {"n": 3, "text": 'say "hi"'}),
        ({"all": ["{n}", "{list}", "{gone}"]}, {"all": [3, [1, None]]}),
        ({"deep": {"gone": "{gone}", "kept": "{nothing}"}}, {"deep": {"kept": None}}),
        ("{list}", [1, None]),
        ("{gone}", None),
        ({"text": "n is {n}, {gone} that."}, {"text": "n is 3,  that."}),
        ({"query": "query { items {id} } {n}"}, {"query": "query { items {id} } 3"}),
        ({"{n}": 1, "fixed": True, "null": None}, {"{n}": 1, "fixed": True, "null": None}),
    ],
)
def test_body_keeps_the_types_of_its_arguments(template: Any, filled: Any) -> None:
    arguments = {"n": 3, "text": 'say "hi"', "list": [1, None], "nothing": None}

    assert fill_json(template, arguments, frozenset({*arguments, "gone"})) == filled


def test_filled_in_text_is_not_filled_in_again() -> None:
    assert fill_json({"a": "x {a}"}, {"a": "{b}", "b": "secret"}, frozenset("ab")) == {"a": "x {b}"}

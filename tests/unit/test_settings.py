"""The shape of the config: what each kind of value takes, and that the example file tells all of it."""

import json
import pickle
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.kinds import (
    ENDPOINT,
    FLAG,
    HASH,
    LARGEST_LIMIT_NANOUSD,
    MOMENT,
    MONEY,
    NAME,
    NETWORK,
    PATH,
    READERS,
    SCOPE,
    SECONDS,
    SECRET,
    STORE_URL,
    TEXT,
    URL,
    WRITERS,
    Secret,
    Wrong,
    duration,
    near,
    one_of,
    whole,
)
from gateway.loading import load
from gateway.settings import Budget, GatewayKey, Limit, Match, ProviderKey, Route, Settings, Upstream

EXAMPLE = Path(__file__).parents[2] / "config" / "tollgate.example.yaml"
LISTED = (Upstream, ProviderKey, Route, Match, Budget, Limit, GatewayKey)
"""Blocks that stand in a list or under a name."""


def blocks(shape=Settings):
    """Each block of the config once."""
    found = [shape, *LISTED] if shape is Settings else [shape]
    for each in fields(shape):
        if each.metadata["kind"].block is not None and each.metadata["kind"].block not in LISTED:
            found += blocks(each.metadata["kind"].block)
    return found


KEYS = [pytest.param(shape, each, id=f"{shape.__name__}.{each.name}") for shape in blocks() for each in fields(shape)]


def read(kind, text):
    return READERS[kind.name](kind, text)


def refused(kind, text):
    """What is said about a value; it must not repeat the value."""
    with pytest.raises(Wrong) as caught:
        read(kind, text)
    return str(caught.value)


def uncommented():
    """The example with its commented-out keys switched on: a # that no space and letter follow."""
    return re.sub(r"^( *)#(?! \S)(?=.)", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)


def test_the_example_equals_the_defaults():
    """What a newcomer copies is what the gateway does without it."""
    assert load(EXAMPLE, {}) == Settings()


def test_what_the_example_has_commented_out_can_be_switched_on(tmp_path):
    """An example that does not load helps nobody; every key of a budget, a route and an upstream is in it."""
    path = tmp_path / "all.yaml"
    path.write_text(uncommented())
    settings = load(path, {"GRAFANA_TOKEN": "one"})
    assert settings.budgets == (Budget("team:*", 2_500_000_000, notify_at=(50, 80, 100), name="every team, a day"),)
    assert settings.upstreams["local"].provider == "self-hosted"
    assert len(settings.routes) == 3
    assert [(each.name, each.role) for each in settings.admin.tokens] == [("grafana", "viewer")]


@pytest.mark.parametrize(("shape", "each"), KEYS)
def test_every_key_stands_in_the_example_with_its_sentence(shape, each):
    """Sentence, name, words to choose from, and whether a restart is needed."""
    text = EXAMPLE.read_text()
    name, says = each.metadata["yaml"] or each.name, each.metadata["says"].rstrip(".")
    sentences = [line for line in text.splitlines() if line.lstrip().startswith("# ") and says in line]
    assert any(("[restart]" in line) == each.metadata["restart"] for line in sentences), says
    lines = [line for line in text.splitlines() if re.search(rf"(^|[ #{{-]){name}:", line)]
    assert lines
    for choice in each.metadata["kind"].choices:
        assert any(re.search(rf"\b{choice}\b", line) for line in lines), choice


@pytest.mark.parametrize("shape", blocks(), ids=lambda shape: shape.__name__)
def test_every_block_says_what_it_is_and_cannot_be_changed(shape):
    """Frozen and documented: a block is shared by calls that run."""
    assert shape.__doc__
    value = shape()
    assert is_dataclass(value)
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(shape)[0].name, "x")


@pytest.mark.parametrize(("shape", "each"), KEYS)
def test_every_default_is_a_value_that_its_kind_takes(shape, each):
    """A default out of bounds could not be written down by a person who wants it."""
    kind = each.metadata["kind"]
    if kind.name not in READERS or each.metadata["required"]:
        return
    default = getattr(shape(), each.name)
    text = WRITERS.get(kind.name, lambda value: str(value).lower() if value is True else str(value))(default)
    assert read(kind, text) == default


def test_a_secret_shows_itself_only_when_asked():
    """repr, str, format, JSON and a dataclass around it hide the text; the empty one is told apart."""
    secret = Secret("sk-live-1")
    shown = [repr(secret), str(secret), f"{secret}", repr(Upstream(api_key=secret)), json.dumps(secret, default=str)]
    assert not any("sk-live" in each for each in shown)
    assert secret.reveal() == "sk-live-1"
    assert secret
    assert not Secret()
    assert str(Secret()) == ""


def test_secrets_are_compared_by_their_text():
    """A reload sees that a key was changed, and that it was not."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert pickle.loads(pickle.dumps(Secret("a"))) == Secret("a")


@given(st.integers(1, 10_000), st.sampled_from(sorted(SECONDS)))
def test_a_duration_survives_writing_and_reading(number, unit):
    """What `tollgate check` prints means what was written."""
    seconds = read(duration(0, 10**9), f"{number}{unit}")
    assert seconds == pytest.approx(float(number * SECONDS[unit]), abs=0)
    assert read(duration(0, 10**9), WRITERS["duration"](seconds)) == seconds


@given(st.decimals(0, 100_000, places=9, allow_nan=False))
def test_any_duration_survives_writing_and_reading(seconds):
    """Also one that no unit divides."""
    value = read(duration(0, 10**9), f"{seconds:f}s")
    assert read(duration(0, 10**9), WRITERS["duration"](value)) == value


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30.0), ("1.5h", 5400.0), ("90", 90.0), ("2 d", 172_800.0), ("0", 0.0)]
)
def test_durations_are_read_in_seconds(text, seconds):
    """A number alone is seconds."""
    assert read(duration(), text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "1e3", "1:30", "١s", "10 minutes", "1s ", "nan", "9" * 40])
def test_what_is_no_duration_is_refused(text):
    """And told how one looks."""
    assert "such as 500ms" in refused(duration(), text)


def test_a_duration_out_of_bounds_is_refused():
    """A lease of nothing would be lost at once."""
    assert "must be from 1 to" in refused(duration(1), "999ms")


@given(st.integers(1, LARGEST_LIMIT_NANOUSD))
def test_money_survives_writing_and_reading(nanousd):
    """Not one nano-dollar is lost on the way."""
    assert read(MONEY, WRITERS["money"](nanousd)) == nanousd


@given(st.decimals(min_value=Decimal("0.000000001"), max_value=9_000_000, places=9))
def test_money_is_exact(amount):
    """The decimal text is the amount: no float stands in between."""
    assert read(MONEY, f"{amount:f}00") == int(amount * 10**9)


@pytest.mark.parametrize("text", ["0", "0.000000000", "-5", "9000000.000000001", "999999999999"])
def test_a_limit_that_no_store_can_count_is_refused(text):
    """Above 9 million dollars balances would no longer be exact; nothing and less is no budget."""
    assert refused(MONEY, text) == "must be above 0 and at most 9000000 dollars"


@pytest.mark.parametrize(
    "text", ["", "ten", "NaN", "sNaN", "Infinity", "1e999999999", "1e3", "$5", "1,000", "0.0000000001", "1" * 40, "٣"]
)
def test_what_is_no_amount_is_refused(text):
    """Also what is finer than a nano-dollar: rounding it would change it."""
    assert "must be an amount of dollars" in refused(MONEY, text)


@pytest.mark.parametrize(
    ("text", "said"), [("65536", "from 0 to 65535"), ("-1", "from 0"), ("8.0", "whole"), ("٨", "whole")]
)
def test_a_whole_number_is_within_its_bounds(text, said):
    """Ports and sizes."""
    assert said in refused(whole(0, 65535), text)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("Yes", True), ("ON", True), ("false", False), ("no", False)]
)
def test_flags_are_the_words_of_yaml(text, value):
    """As YAML 1.1 has them."""
    assert read(FLAG, text) is value


def test_other_words_are_no_flags():
    """1 may be a typo."""
    assert refused(FLAG, "1") == "must be true or false"


def test_a_misspelt_choice_gets_the_nearest_word():
    """And all that are allowed."""
    assert refused(one_of("cancel", "drain"), "drian") == "must be one of cancel, drain; did you mean drain?"


@pytest.mark.parametrize(
    "scope",
    [
        "global",
        "team:*",
        "user:*",
        "team:search",
        "user:a@b.c",
        "team:Équipe 1",
        "team:-",
        "call",
        "request",
        "model:gpt-5*",
        "tag:project",
        "tag:project=a",
        "team:*+model:gpt-5*+agent:x",
        "team:a+b",
    ],
)
def test_scopes_are_taken_as_they_are(scope):
    """Letters of any script: callers may be called so."""
    assert read(SCOPE, scope) == scope


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "all",
        "team",
        "team:",
        "team: a",
        "team:a ",
        "agnt:x",
        "global:x",
        "Team:a",
        "call:x",
        "tag:",
        "tag:=x",
        "request+global",
    ],
)
def test_what_is_no_scope_is_refused(scope):
    """A budget on nobody limits nothing."""
    assert refused(SCOPE, scope)


def test_a_scope_takes_no_pattern():
    """team:dev-* would look as if it limited the teams that begin so."""
    assert "takes * alone" in refused(SCOPE, "team:dev-*")


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[2J", "a\x00", "\u202e", "\ud800"])
def test_texts_hold_nothing_that_a_terminal_obeys(text):
    """Names travel into logs, headers and labels."""
    assert refused(TEXT, text) == "holds characters that cannot be printed"


@pytest.mark.parametrize("text", ["sk-é", "sk\r\nx-evil: 1", "x" * 5000])
def test_a_secret_fits_into_a_header_field(text):
    """A line break would be a header of its own; the message says nothing of the text."""
    assert text[:3] not in refused(SECRET, text)


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1", "http://127.0.0.1:8000", "http://[::1]:8000/v1", "https://x/a/b/"]
)
def test_urls_are_taken_as_they_are(url):
    """Path included."""
    assert read(URL, url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://x",
        "http://",
        "http://:80",
        "http://x:0",
        "http://x:99999",
        "http://[::1",
        "http://a b",
        "http://é",
    ],
)
def test_what_is_no_url_is_refused(url):
    """In time: the first call would be the next one to notice."""
    assert refused(URL, url)


@pytest.mark.parametrize("url", ["http://u:p@x", "http://u@x", "http://x/?a=1", "http://x/?", "http://x/#a"])
def test_a_url_holds_no_credentials_query_or_fragment(url):
    """A credential belongs into api_key, which hides itself."""
    assert "takes no query" in refused(URL, url)


def test_only_paths_of_v1_have_rules():
    """A rule for another path would never be asked."""
    assert read(PATH, "/v1/chat") == "/v1/chat"
    assert read(PATH, "") == ""
    for path in ("/v2", "/v1x", "v1"):
        assert "must begin with /v1" in refused(PATH, path)


@pytest.mark.parametrize(
    "url", ["mysql://x", "sqlite://x", "sqlite:///", "tollgate.db", "redis://", "redis://u:p@x", "redis://x?password=p"]
)
def test_what_is_no_store_is_refused(url):
    """A file or a Redis; passwords stand elsewhere, because the address is shown."""
    assert refused(STORE_URL, url)


@pytest.mark.parametrize(
    "url",
    ["redis://x", "rediss://x:1/2", "unix:///run/redis.sock", "redis+sentinel://a:1,b:2/main/0", "redis+cluster://a,b"],
)
def test_stores_are_taken_as_they_are(url):
    """Every way to reach a Redis."""
    assert read(STORE_URL, url) == url


@pytest.mark.parametrize(
    "address", ["", "http://collector:4318", "https://x/v1/traces", "localhost:8125", "[::1]:4317"]
)
def test_an_endpoint_is_an_address(address):
    """Of whatever form its protocol has."""
    assert read(ENDPOINT, address) == address


@pytest.mark.parametrize("address", ["http://u:p@x", "u:p@x:1", "http://x?key=p", "http://x#p", "a b"])
def test_an_endpoint_holds_no_credentials(address):
    """They belong into headers, which hide themselves; the address is shown."""
    assert "without query, fragment or credentials" in refused(ENDPOINT, address)


def test_every_kind_in_use_has_a_reader():
    """A kind without one would fail on the day that somebody uses the key."""
    names = {each.metadata["kind"].name for shape in blocks() for each in fields(shape)}
    assert names - READERS.keys() == {"block", "map", "list", "words", "zone", "file"}


def test_the_suggestion_is_empty_when_nothing_is_like_it():
    """A far-fetched guess misleads."""
    assert near("qqq", ["port"]) == ""
    assert near("prot", ["port"]) == "; did you mean port?"


def test_yaml_reads_the_example_as_we_do():
    """Our expansion of ${} must not have made another language of it."""
    assert yaml.safe_load(EXAMPLE.read_text())["front"]["port"] == 8080


# -- gateway keys ---------------------------------------------------------------------------------------------------------


@given(st.integers(946_684_800, 32_503_680_000))
def test_a_moment_survives_writing_and_reading(seconds):
    """A midnight as its day, every other second as itself; never is an empty text."""
    assert read(MOMENT, WRITERS["moment"](seconds)) == seconds
    assert len(WRITERS["moment"](seconds)) == (20 if seconds % 86400 else 10)
    assert (read(MOMENT, ""), WRITERS["moment"](0)) == (0, "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-01", 1_798_761_600),
        ("2027-01-01T12:00:00Z", 1_798_804_800),
        ("2027-01-01T12:00:00+02:00", 1_798_797_600),
    ],
)
def test_a_day_begins_in_utc_and_a_time_has_its_zone(text, seconds):
    """Whatever zone the gateway's machine is in."""
    assert read(MOMENT, text) == seconds


@pytest.mark.parametrize(
    "text", ["soon", "2027-02-30", "2027-01-01T12:00", "1970-01-01", "0001-01-01", "2027-13-01", "90d"]
)
def test_what_is_no_moment_is_refused(text):
    """1970-01-01 would be zero, which is never."""
    said = refused(MOMENT, text)
    assert "2027-01-01" in said or "before the year 2000" in said


@pytest.mark.parametrize("text", ["ab" * 32, "AB" * 32, f"sha256:{'ab' * 32}", f"sha256:{'Ab' * 32}"])
def test_a_hash_has_one_spelling(text):
    """However it was written, so that a key that stands twice is seen."""
    assert read(HASH, text) == f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    "text", ["", "ab" * 31, "zz" * 32, f"md5:{'ab' * 32}", f"{'ab' * 32} ", "tg-0123456789abcdefghijABCDEFGHIJ01"]
)
def test_what_is_no_hash_is_refused_without_a_word_of_it(text):
    """It may be the key itself."""
    said = refused(HASH, text)
    assert not text or text not in said
    assert ("is a key and not its hash" in said) == text.startswith("tg-")


def test_names_of_keys_are_what_a_header_may_say():
    """Otherwise no call could say the same."""
    assert read(NAME, "équipe 1") == "équipe 1"
    assert read(NAME, "") == ""
    for text in ("a\nb", " a", "a ", "x" * 129, "\u202ea"):
        assert refused(NAME, text)


def test_networks_are_written_in_one_way():
    """An address alone is a network of one."""
    assert read(NETWORK, "10.0.0.0/8") == "10.0.0.0/8"
    assert read(NETWORK, "2001:DB8::1") == "2001:db8::1/128"
    for text in ("", "10.0.0.1/8", "10.0.0.0/33", "host", "10.0.0"):
        assert refused(NETWORK, text)

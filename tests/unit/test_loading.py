"""File + environment -> Settings: what is read, what is refused and with which words, and what never leaks."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import loading
from gateway.canonical import canonical, version
from gateway.kinds import Secret
from gateway.loading import Problems, budget_name, load
from gateway.settings import (
    DEFAULT_ROUTES,
    DEFAULT_UPSTREAMS,
    Budget,
    Match,
    Metrics,
    Route,
    Settings,
    Upstream,
)

BAD = sorted((Path(__file__).parents[1] / "config").glob("*.yaml"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.yaml"


def loaded(path, text, environ=None):
    path.write_text(text)
    return load(path, environ or {})


def problems(path, text, environ=None):
    """The problems of a text, without the file's name."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Problems) as caught:
        load(path, environ or {})
    return [found.removeprefix(f"{path}:") for found in caught.value.found]


# -- what is wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.stem)
def test_a_bad_file_gets_exactly_the_problems_that_stand_in_it(bad):
    """Each with file, line and key, all at once, none twice. The files say behind ``# <-`` what is wrong with a line."""
    lines = enumerate(bad.read_text().splitlines(), start=1)
    said = [f"{bad}:{number}: {line.partition('# <- ')[2]}" for number, line in lines if "# <- " in line]
    with pytest.raises(Problems) as caught:
        load(bad, {})
    assert caught.value.found == said
    assert str(caught.value).splitlines() == said


def test_there_are_bad_files():
    """An empty list would make the test above pass for nothing."""
    assert len(BAD) > 30


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "1: holds no keys; write {} for the defaults"),
        (b"---\n", "1: holds no keys; write {} for the defaults"),
        (b"a: 1\nb: \xff\n", "2: is not UTF-8"),
        ("front: {}".encode("utf-16"), "1: is not UTF-8"),
        (b"a: 1\nb: \x00\n", "2: is not YAML: it holds a control character"),
        (b'a: "\\UFFFFFFFF"', "1: is not YAML: a number is too large"),
        (b"a: " + b"[" * 5000, "1: is not YAML: it nests too deep"),
        (b"#" * (loading.MAX_FILE_BYTES + 1), "1: is larger than 1 MiB"),
    ],
)
def test_what_cannot_be_parsed_is_told_with_its_line(path, raw, said):
    """An empty file too: one that is being written must not count as the defaults, which limit nothing."""
    assert problems(path, raw) == [said]


def test_a_file_that_is_not_there_is_one_problem(tmp_path):
    """Also a folder in its place."""
    for path, why in ((tmp_path / "no.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(Problems) as caught:
            load(path, {})
        assert caught.value.found == [f"{path}:1: cannot be read: {why}"]


def test_problems_stand_in_the_order_of_the_file(path):
    """Those that only the whole tells as well."""
    found = problems(path, "admin: {host: 0.0.0.0}\nrotes: []\nfront: {port: x}\n")
    assert [each.split(":")[0] for each in found] == ["1", "2", "3"]


def test_no_problem_repeats_a_value(path):
    """Any value may be a secret in the wrong place."""
    keys = ["front: {port: V}", "front: {host: [V]}", "front: {response_headers: V}", "store: {url: V}",
            "store: {lease: V}", "upstreams: {a: {base_url: V, protocol: V}}", "metering: {unpriced: V}",
            "budgets: [{scope: V, limit_usd: V, window: V, timezone: V}]", "pricing: {overrides: V}", "routes: [{to: [V]}]",
            "admin: {token: *V}", "admin: V", "routes: V", "admin: {token_file: V}", "admin: {token: Vé}",
            "admin: {token: &V V, host: *V", "admin: {token: '${V'}"]  # fmt: skip
    for key in keys:
        assert "sk-live-77" not in "\n".join(problems(path, key.replace("V", "sk-live-77")))


def test_a_key_cannot_forge_a_line_or_paint_a_terminal(path):
    """Keys are shown, cleaned and cut."""
    (found,) = problems(path, '"a\\n\\e[31mevil": 1\n')
    assert found.startswith("1: a??[31mevil: there is no such key")
    assert len(problems(path, f"{'k' * 120}: 1\n")[0]) < 400


def test_a_message_of_many_problems_is_bounded(path):
    """Two thousand unknown keys are one mistake."""
    assert len(problems(path, "\n".join(f"k{number}: 1" for number in range(2000)))) == loading.MAX_PROBLEMS


def test_aliases_of_aliases_end(path):
    """A few lines can stand for more values than memory holds."""
    lines = ["upstreams:", "  a: &a {base_url: http://a}"]
    keys = "\n".join(f"r{number}: &r{number} [{', '.join([f'*r{number - 1}'] * 9)}]" for number in range(1, 9))
    assert problems(path, "r0: &r0 [x]\n" + keys)
    entries = ", ".join(f"k{number}: 1" for number in range(400))
    merges = f"front: &f {{{entries}}}\nroutes: [" + ", ".join(["{<<: *f}"] * 400) + "]\n"
    assert len(problems(path, merges)) <= loading.MAX_PROBLEMS + 1
    path.write_text("\n".join(lines) + "\nroutes: &r [" + ", ".join(["{to: [a]}"] * 34_000) + "]\n")
    with pytest.raises(Problems) as caught:
        load(path, {})
    assert "the file holds more than 100000 values" in str(caught.value)


# -- what is read ---------------------------------------------------------------------------------------------------------


def test_no_file_means_the_defaults():
    """And so does an empty block."""
    assert load(None, {}) == Settings()


@pytest.mark.parametrize("text", ["{}", "front:\n", "front: {}\nbudgets:\nroutes: null\n", "\ufefffront: {}\n"])
def test_what_is_left_out_has_its_default(path, text):
    """A key without a value is a key left out; a byte order mark is no content."""
    assert loaded(path, text) == Settings()


def test_every_kind_of_value_is_read(path):
    """Numbers, words, times, money, lists."""
    read = loaded(
        path,
        """
front: {port: 0, max_body_mb: 7, response_headers: off, shutdown_grace: 1m}
admin: {host: "::1", port: 0}
store: {url: "sqlite:////var/lib/t.db", lease: 90s, durability: full}
routes: [{match: {model: "gpt-*"}, to: [openai]}]
budgets:
  - {scope: team:a, limit_usd: 2.50, window: month, mode: strict, timezone: Europe/Berlin, name: a}
  - {scope: team:a, limit_usd: 0.1}
metering: {on_disconnect: drain, drain_timeout: 90s}
observability: {metrics: {labels: []}}
""",
    )
    assert read.front.shutdown_grace == 60.0
    assert read.store.durability == "full"
    assert read.routes == (Route(Match(model="gpt-*"), ("openai",)),)
    assert read.budgets == (
        Budget("team:a", 2_500_000_000, "month", "strict", "Europe/Berlin", name="a"),
        Budget("team:a", 100_000_000),
    )
    assert read.observability.metrics == Metrics(labels=())
    assert [budget_name(each) for each in read.budgets] == ["a", "team:a/day"]


def test_upstreams_stand_beside_the_defaults(path):
    """One of the same name replaces a default whole; null removes it, and with it the default rule that leads there."""
    read = loaded(
        path, "upstreams: {openai: {base_url: http://a/v1, api_key: k}, x-1: {base_url: http://b}, anthropic: }"
    )
    assert set(read.upstreams) == {"openai", "gemini", "x-1"}
    assert read.upstreams["openai"] == Upstream("http://a/v1", provider="openai", api_key=Secret("k"))
    assert read.upstreams["gemini"] == DEFAULT_UPSTREAMS["gemini"]
    assert read.routes == DEFAULT_ROUTES[1:]


@pytest.mark.parametrize(
    ("keys", "provider"),
    [("protocol: gemini", "google"), ("protocol: anthropic", "anthropic"), ("", "openai"), ("provider: mine", "mine")],
)
def test_a_provider_follows_from_the_protocol(path, keys, provider):
    """Unless it is named."""
    read = loaded(path, f"upstreams:\n  x:\n    base_url: http://a\n    {keys}\n")
    assert read.upstreams["x"].provider == provider


def test_anchors_and_merges_are_understood(path):
    """What stands beside << goes before what is merged; the first of several merged goes before the next."""
    read = loaded(
        path,
        """
upstreams:
  a: &a {base_url: http://a, max_idle: 1, keepalive: 1s}
  b: &b {<<: *a, max_idle: 2}
  c: {max_idle: 3, <<: [*b, *a]}
""",
    )
    assert [read.upstreams[name].max_idle for name in "abc"] == [1, 2, 3]
    assert [read.upstreams[name].keepalive for name in "abc"] == [1.0, 1.0, 1.0]


# -- the environment and files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("admin: {token: ${T}}", "x"),
        ("admin: {token: ${T:-}}", "x"),
        ("admin: {token: a${T}b${T}c}", "axbxc"),
        ('admin: {token: "${NO:-dflt}"}', "dflt"),
        ("admin:\n  token: ${NO:-}\n", ""),
        ("admin:\n  token: ${EMPTY:-dflt}\n", "dflt"),
        ("admin:\n  token: ${EMPTY}\n", ""),
        ("admin:\n  token: $T {x} $x\n", "$T {x} $x"),
        ("admin:\n  token: ${NO:-a:-b}  # ${NOPE}\n", "a:-b"),
    ],
)
def test_variables_are_expanded_within_values(path, text, token):
    """Also where YAML itself would end the value at the brace, as in {token: ${T}}."""
    assert loaded(path, text, {"T": "x", "EMPTY": ""}).admin.token.reveal() == token


def test_a_value_of_the_environment_never_becomes_syntax(path):
    """No key, no comment, no quote, no second expansion."""
    for value in ("a: b", "x # y", "'\"", "}, port: 1, {", "${OTHER}", "*a", "&a", "!!x", "null", "- a"):
        assert loaded(path, "admin: {token: ${T}}", {"T": value}).admin == replace(
            Settings().admin, token=Secret(value)
        )


def test_any_value_may_come_from_the_environment(path):
    """Numbers, flags, money, the names of upstreams."""
    environ = {"PORT": "9000", "ON": "false", "USD": "2.5", "TO": "gemini"}
    text = """
front: {port: ${PORT}, response_headers: ${ON}}
routes: [{to: [${TO}]}]
budgets: [{scope: global, limit_usd: ${USD}}]
"""
    read = loaded(path, text, environ)
    assert (read.front.port, read.front.response_headers) == (9000, False)
    assert (read.routes[0].to, read.budgets[0].limit_nanousd) == (("gemini",), 2_500_000_000)


def test_a_bad_value_of_the_environment_is_told_by_its_key(path):
    """At the line where it is used, without the value."""
    assert problems(path, "\nfront: {port: ${P}}", {"P": "sk-1"}) == ["2: front.port: must be a whole number"]
    (found,) = problems(path, "admin: {token: ${P}}", {"P": "a\nb"})
    assert found == "1: admin.token: holds characters that cannot be printed"


def test_a_secret_may_lie_in_a_file(path, tmp_path):
    """Without the line's end that editors leave there; the file's name may come from the environment."""
    (tmp_path / "token").write_text("  sk-1\n")
    read = loaded(path, f"admin: {{token_file: ${{DIR}}/token}}\nupstreams: {{x: {{base_url: http://a, api_key_file: {tmp_path}/token}}}}",
                  {"DIR": str(tmp_path)})  # fmt: skip
    assert read.admin.token.reveal() == read.upstreams["x"].api_key.reveal() == "sk-1"


def test_an_empty_secret_file_is_no_secret(path, tmp_path):
    """A mount that failed must not open the admin listener."""
    (tmp_path / "token").write_text("\n")
    text = f"admin: {{host: 0.0.0.0, token_file: {tmp_path}/token}}"
    assert problems(path, text) == ["1: admin.token_file: the file is empty"]
    (tmp_path / "token").write_bytes(b"\xff")
    assert problems(path, text) == ["1: admin.token_file: the file cannot be read"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_token(path, host):
    """And off loopback one is enough."""
    assert loaded(path, f'admin: {{host: "{host}"}}').admin.host == host
    assert loaded(path, "admin: {host: 0.0.0.0, token: t}").admin.token


# -- the canonical form ---------------------------------------------------------------------------------------------------

FULL = """
admin: {token: sk-live-1}
upstreams: {local: {base_url: "http://a/v1", api_key: sk-live-2, idle_timeout: 1.5s}, gemini: null}
budgets: [{scope: global, limit_usd: 0.000000001, window: total}]
"""


def test_the_canonical_form_hides_secrets_and_loads_again(path):
    """What ``tollgate check`` prints is a config, apart from the secrets."""
    read = loaded(path, FULL)
    shown = json.dumps(canonical(read))
    assert "sk-live" not in shown
    assert canonical(read)["admin"]["token"] == "***"
    again = loaded(path, shown.replace("***", "sk"))
    assert again == replace(
        read,
        admin=replace(read.admin, token=Secret("sk")),
        upstreams={**read.upstreams, "local": replace(read.upstreams["local"], api_key=Secret("sk"))},
    )


def test_the_canonical_form_holds_money_as_text(path):
    """A float would not keep every nano-dollar."""
    assert canonical(loaded(path, FULL))["budgets"][0]["limit_usd"] == "0.000000001"


def test_the_version_names_what_is_configured_not_how_it_is_written(path):
    """Comments, order, units and spelled-out defaults make no other version; each value and each secret does."""
    base = version(loaded(path, FULL))
    assert re.fullmatch("[0-9a-f]{12}", base)
    turned = "# x\n" + "\n".join(reversed(FULL.strip().splitlines())) + "\nstore: {lease: 1m}\n"
    assert version(loaded(path, turned)) == base
    for old, new in (
        ("sk-live-1", "sk-live-3"),
        ("0.000000001", "0.000000002"),
        ("1.5s", "1500.1ms"),
        ("total", "day"),
    ):
        assert version(loaded(path, FULL.replace(old, new))) != base
    assert version(Settings()) == version(loaded(path, "{}"))


def test_two_hashes_that_look_alike_are_two_versions(path):
    """Of a key's hash twelve digits are shown; all of them count."""
    one, two = (loaded(path, f"keys: [{{name: a, hash: {'ab' * 31}{end}}}]") for end in ("00", "01"))
    assert canonical(one) == canonical(two)
    assert canonical(one)["keys"][0]["hash"] == "ab" * 6
    assert version(one) != version(two)


# -- anything -------------------------------------------------------------------------------------------------------------

WORDS = ["front", "port", "host", "admin", "token", "token_file", "upstreams", "openai", "base_url", "routes", "to", "match",
         "budgets", "scope", "limit_usd", "window", "<<", "api_key", "null", "8080", "1e9", "${X}", "global", "day", "v1",
         "observability", "metrics", "labels", "team", "30s", "http://a", "pricing", "overrides", "store", "url"]  # fmt: skip
SCALARS = st.one_of(st.sampled_from(WORDS), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(path):
    """Settings or problems; anything else that comes out of load is a crash."""
    found = []
    try:
        assert isinstance(load(path, {"X": "1"}), Settings)
    except Problems as problems:
        found = problems.found
        if not found:
            raise
    assert all(re.fullmatch(rf"{re.escape(str(path))}:\d+: .+", each) for each in found)


@QUICK
@given(TREES)
def test_any_tree_gives_settings_or_problems(path, tree):
    """Whatever YAML can say."""
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    outcome(path)


@QUICK
@given(st.binary(max_size=200) | st.text(alphabet="{}[]:,&*!|>'\"%@`#-?<$~ \n\taA0.", max_size=60).map(str.encode))
def test_any_bytes_give_settings_or_problems(path, raw):
    """Whatever a disk can hold."""
    path.write_bytes(raw)
    outcome(path)


@QUICK
@given(st.data())
def test_a_damaged_file_gives_settings_or_problems(path, data):
    """A good file with a piece cut out or put in."""
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, len(FULL)))
    path.write_text(FULL[:start] + data.draw(st.text(alphabet="{}[]:,&*a0 \n-", max_size=5)) + FULL[end:])
    outcome(path)


def test_a_price_file_is_checked_with_the_config(tmp_path):
    """A gateway must not start, or change over, on prices that are wrong; each fault is told, at the key that names the file."""
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "rows:\n  - {id: d, provider: openai, names: [x], percent: 85}\n  - {id: e, names: [x], rates: {input: '1'}}\n"
    )
    config = tmp_path / "tollgate.yaml"
    config.write_text(f"pricing:\n  overrides: {prices}\n")
    with pytest.raises(Problems) as problems:
        load(config, {})
    start = f"{config.name}:2: pricing.overrides: row "
    assert [line.partition(start)[2][:20] for line in problems.value.found] == [
        "1 (d): percent: a pe",
        "2 (e): provider: a n",
    ]
    prices.write_text("rows: []\n")
    load(config, {})
    prices.write_text("no rows")
    with pytest.raises(Problems, match="not a price file"):
        load(config, {})


@pytest.mark.parametrize("address", ["127.0.0.1:8125", "[::1]:8125", "statsd.internal:1", ""])
def test_an_address_is_a_host_and_a_port(tmp_path, address):
    """An IPv6 address in brackets, as in a URL."""
    path = tmp_path / "tollgate.yaml"
    path.write_text(f"observability: {{metrics: {{statsd: '{address}'}}}}\n")
    assert load(path, {}).observability.metrics.statsd == address


@pytest.mark.parametrize(
    "address", ["::1:8125", "localhost:0", "localhost:65536", ":8125", "http://localhost:8125", "a b:1"]
)
def test_what_is_no_address_is_a_problem(tmp_path, address):
    """Before anything is sent there."""
    found = problems(tmp_path / "tollgate.yaml", f"observability: {{metrics: {{statsd: '{address}'}}}}\n")
    assert found == ["1: observability.metrics.statsd: must be HOST:PORT, with an IPv6 address in brackets"]


@pytest.mark.parametrize("label", ["user", "key_name", "tags.cost-center", "tags.V1.2_x"])
def test_a_label_may_be_a_name_of_the_caller(tmp_path, label):
    """Or a tag of any name that a tag can have."""
    path = tmp_path / "tollgate.yaml"
    path.write_text(f"observability: {{metrics: {{labels: [team, {label}]}}}}\n")
    assert load(path, {}).observability.metrics.labels == ("team", label)


# -- gateway keys ---------------------------------------------------------------------------------------------------------

HASHED = "{name: a, hash: %s}" % ("ab" * 32)


def test_in_mode_keys_built_in_upstreams_without_a_key_are_not_there(path):
    """Nor are the built-in routes to them; what the file names stays."""
    text = "auth: {mode: keys}\nupstreams: {openai: {base_url: 'http://a/v1', api_key: k}}\n"
    settings = loaded(path, text + f"keys: [{HASHED}]\n")
    assert list(settings.upstreams) == ["openai"]
    assert [route.to for route in settings.routes] == [("openai",)]
    assert set(loaded(path, f"keys: [{HASHED}]\n").upstreams) == {"openai", "anthropic", "gemini"}
    assert loaded(path, "auth: {mode: keys}\n").routes == ()


def test_one_name_may_stand_for_an_old_and_a_new_key(path):
    """Of one team and user."""
    other = HASHED.replace("ab", "cd")
    assert len(loaded(path, f"keys: [{HASHED}, {other}]\n").keys) == 2
    assert "another team" in problems(path, f"keys: [{HASHED}, {other[:-1]}, user: u}}]\n")[0]

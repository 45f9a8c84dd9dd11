"""loading: every problem at once, each with its file, line and key; secrets never become syntax or words."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.loading import Problems, canonical, load, version
from gateway.settings import DEFAULT_ROUTES, Secret, Settings

ROOT = Path(__file__).parents[2]
FAULTY = sorted((ROOT / "tests" / "config").glob("*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tollgate.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", FAULTY, ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_its_line_and_its_fault(path):
    """Each file is named by its fault and says what must be answered."""
    expected = path.read_text().rpartition("# expect: ")[2].strip()
    with pytest.raises(Problems) as problems:
        load(path, {})
    assert any(found.startswith(f"{path}:{expected}") for found in problems.value.found), problems.value.found


def test_all_problems_are_told_at_once(tmp_path):
    """Nobody wants to mend a config one error at a time."""
    text = 'front: {prot: 1, port: x}\nbudgets:\n  - {scope: "team:*"}\nroutes: [{to: [nowhere]}]\n'
    with pytest.raises(Problems) as problems:
        load(written(tmp_path, text), {})
    assert len(problems.value.found) == 4


def test_the_example_file_is_the_defaults_and_names_every_key():
    """The example is the documentation: it cannot drift from the code."""
    example = ROOT / "config" / "tollgate.example.yaml"
    assert load(example, {}) == Settings()
    shown = canonical(Settings())
    shown["budgets"] = []

    def keys(value, path=""):
        if isinstance(value, dict):
            for name, each in value.items():
                yield path + name
                yield from keys(each, f"{path}{name}.")

    text = yaml.safe_load(example.read_text())
    told = set(keys(text))
    wanted = {key for key in keys(shown) if not key.startswith(("upstreams.anthropic.", "upstreams.gemini."))}
    assert wanted <= told


def test_no_file_and_an_empty_file_are_the_defaults(tmp_path):
    """Every key is optional."""
    assert load(None, {}) == load(written(tmp_path, ""), {}) == load(written(tmp_path, "# nothing\n"), {}) == Settings()


def test_values_of_the_environment_cannot_become_syntax(tmp_path):
    """Expansion happens after parsing."""
    path = written(tmp_path, 'admin: {token: "${T}"}\nupstreams: {local: {base_url: "${U:-http://127.0.0.1:1}"}}\n')
    settings = load(path, {"T": "x, port: 1}\n- [", "U": ""})
    assert settings.admin.token.reveal() == "x, port: 1}\n- ["
    assert settings.upstreams["local"].base_url == "http://127.0.0.1:1"


def test_a_secret_is_read_from_a_file_and_never_shown(tmp_path):
    """Not in repr, not in what check prints, not in the version in clear."""
    (tmp_path / "key").write_text("sk-very-secret\n")
    url = "http://127.0.0.1:1"
    path = written(tmp_path, f"upstreams: {{local: {{base_url: '{url}', api_key_file: '{tmp_path}/key'}}}}\n")
    settings = load(path, {})
    assert settings.upstreams["local"].api_key.reveal() == "sk-very-secret"
    assert "sk-very-secret" not in repr(settings) + str(canonical(settings)) + version(settings)


def test_a_wrong_value_is_not_repeated(tmp_path):
    """It may be a secret in the wrong place."""
    path = written(
        tmp_path, "front: {port: sk-very-secret, response_headers: sk-very-secret, keepalive_timeout: sk-very-secret}"
    )
    with pytest.raises(Problems) as problems:
        load(path, {})
    assert len(problems.value.found) == 3
    assert "sk-very-secret" not in str(problems.value)


def test_upstreams_are_laid_over_the_defaults(tmp_path):
    """An entry replaces, null removes, the rest stays; a provider follows from the protocol."""
    text = "upstreams:\n  gemini:\n  mine: {base_url: 'http://127.0.0.1:1/x', protocol: anthropic}\n"
    settings = load(written(tmp_path, text), {})
    assert set(settings.upstreams) == {"openai", "anthropic", "mine"}
    assert settings.upstreams["mine"].provider == "anthropic"
    assert settings.routes == DEFAULT_ROUTES


def test_money_is_read_exactly(tmp_path):
    """A decimal in the file is that decimal in nano-dollars; no float comes near it."""
    text = 'budgets:\n  - {scope: global, limit_usd: 0.1}\n  - {scope: "team:a b", limit_usd: "1234567.123456789"}\n'
    settings = load(written(tmp_path, text), {})
    assert [budget.limit_nanousd for budget in settings.budgets] == [100_000_000, 1_234_567_123_456_789]


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("30", 30), ("1.5m", 90), ("24h", 86400), ("30d", 2592000)]
)
def test_durations_have_units(tmp_path, text, seconds):
    """Seconds unless it says otherwise."""
    assert load(written(tmp_path, f"front: {{shutdown_grace: {text}}}"), {}).front.shutdown_grace == seconds


def test_the_version_follows_the_content(tmp_path):
    """Same settings, same version; any difference, secrets included, another one."""
    assert version(Settings()) == version(Settings())
    plain = version(load(written(tmp_path, "front: {port: 1}"), {}))
    assert plain not in (version(Settings()), version(load(written(tmp_path, "front: {port: 2}"), {})))
    with_key = [version(load(written(tmp_path, f"admin: {{token: {key}}}"), {})) for key in ("a", "b")]
    assert with_key[0] != with_key[1]


def test_an_alias_that_explodes_is_stopped(tmp_path):
    """Ten levels of ten aliases would be ten thousand million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(Problems):
        load(written(tmp_path, "\n".join([*lines, "routes: *a9"])), {})


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path):
    """The path and the reason, nothing else."""
    with pytest.raises(Problems, match="cannot be read"):
        load(tmp_path / "nowhere.yaml", {})
    (tmp_path / "tollgate.yaml").write_bytes(b"front:\n  host: \xff\xfe\n")
    with pytest.raises(Problems, match=":2: is not UTF-8"):
        load(tmp_path / "tollgate.yaml", {})


def test_a_secret_hides_itself():
    """Whatever prints it prints stars."""
    secret = Secret("sk-1")
    assert f"{secret} {secret!r} {secret!s} {[secret]}" == "*** *** *** [***]"
    assert secret == Secret("sk-1")
    assert secret != Secret("sk-2")
    assert not Secret("")


ANY_YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["front", "port", "budgets", "scope", "upstreams", "routes", "to", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(ANY_YAML)
def test_any_yaml_is_settings_or_problems(tmp_path_factory, value):
    """Never another exception."""
    path = tmp_path_factory.mktemp("any") / "tollgate.yaml"
    path.write_text(yaml.safe_dump(value))
    try:
        load(path, {})
    except Problems as problems:
        assert problems.found


@given(st.binary(max_size=200))
def test_any_bytes_are_settings_or_problems(tmp_path_factory, raw):
    """Nor for what is no YAML at all."""
    path = tmp_path_factory.mktemp("any") / "tollgate.yaml"
    path.write_bytes(raw)
    try:
        load(path, {})
    except Problems as problems:
        assert problems.found

"""The live page in a real browser, before a real gateway with traffic: what it shows is what the books say, and nothing of what
callers send becomes more than text.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from gateway.simulator import Simulator
from tests.harness.books import CHAT, MINI, TOLD, look, post, record_after
from tests.harness.gateways import config_for, free_port, in_process
from tests.harness.raw_client import ask
from tests.harness.replicas import done

playwright = pytest.importorskip("playwright.async_api")

CHROMIUM = shutil.which("chromium") or ""
pytestmark = [
    pytest.mark.real,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
]

TOKEN = "admin-token-of-the-page"
LOOKER = "viewer-token-of-the-page"
OPERATORS = {"New budget", "Change", "Reset", "New key", "Rotate", "Revoke", "Add an annotation", "Remove"}
"""What only operators are offered."""
OF_THE_CONFIG = {"name": "from-the-config", "team": "search", "hash": f"sha256:{'5' * 64}"}
PATIENCE_MS = 15_000
XSS = "<img src=x onerror=document.title='owned'>"
VIEWS = ("", "spend", "budgets", "latency", "calls", "keys", "changes")
BUDGETS = [
    {"scope": "team:poor", "limit_usd": "0.000001", "window": "day"},
    {"scope": "team:*", "limit_usd": 2, "window": "day"},
    {"scope": "global", "limit_usd": 50, "window": "month"},
]
EXPECTED = {404, 422}
"""Parts that a gateway does not offer are looked for all the same; a body that is not right is said to be so."""
TARGETS = [{"name": "chat", "latency_ms": 2000, "objective": 0.95}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    """Debian's Chromium."""
    async with playwright.async_playwright() as driver:
        running = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        await running.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """Behind all gateways here."""
    async with Simulator() as simulator:
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """With budgets, a target and a few calls."""
    folder = tmp_path_factory.mktemp("page")
    limits = [{"name": "one a minute", "scope": "team:hurried", "requests_per_minute": 1}]
    config = config_for(
        folder, provider.url, budgets=BUDGETS, targets=TARGETS, limits=limits, front={"port": free_port()}
    )
    async with in_process(folder, config) as serving:
        for team in ("search", "support", "poor"):
            await call(serving, team)
        yield serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def empty(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """Nothing has passed through this one."""
    folder = tmp_path_factory.mktemp("empty")
    async with in_process(folder, config_for(folder, provider.url, front={"port": free_port()})) as serving:
        yield serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """With a token of each role, a key of the config, budgets and an annotation."""
    folder = tmp_path_factory.mktemp("locked")
    admin = {"port": 0, "token": TOKEN, "tokens": [{"name": "grafana", "token": LOOKER, "role": "viewer"}]}
    config = config_for(folder, provider.url, admin=admin, keys=[OF_THE_CONFIG], budgets=BUDGETS)
    async with in_process(folder, config) as serving:
        await ask(serving.front_port, post(CHAT, MINI))
        await change(serving, "annotations", {"text": "it began"}, TOKEN)
        yield serving


async def change(gateway: Any, path: str, body: dict[str, Any], token: str = "") -> None:
    """As an operator's script would."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{gateway.admin_url}/api/v1/{path}", json=body) as response,
    ):
        assert response.status == 201, await response.text()


async def call(gateway: Any, team: str, *fields: tuple[str, str], **more: Any) -> dict[str, Any]:
    """Make one; its record."""
    body = {**MINI, **more}
    answer = await ask(gateway.front_port, post(CHAT, body, "words=300", ("x-tollgate-team", team), *fields))
    return await record_after(gateway, answer)


class Tab:
    """A page of the browser; ``complaints`` is everything that its console said or that its policy forbade."""

    def __init__(self, page: Any, gateway: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._url = gateway.admin_url
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("response", self._answered)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.set_default_timeout(PATIENCE_MS)

    async def open(self, view: str = "") -> None:
        """A view, once it is drawn."""
        await self.page.goto(f"{self._url}/#/{view}")
        await self.page.wait_for_selector("main section:visible")

    def _answered(self, response: Any) -> None:
        if response.status >= 400 and response.status not in EXPECTED:
            self.complaints.append(f"{response.status} {response.url}")

    @property
    def faults(self) -> list[str]:
        """But for what the browser itself notes of answers: those are told by their address."""
        return [said for said in self.complaints if not said.startswith("Failed to load resource")]


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Any, gateway: Any) -> AsyncIterator[Tab]:
    """Opened at nothing yet."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    tab = Tab(await context.new_page(), gateway)
    yield tab
    assert tab.faults == []
    await context.close()


def cents(nanousd: int, places: int = 6) -> str:
    """As the page rounds: half up, and something is never shown as nothing."""
    if 0 < 2 * nanousd < 10 ** (9 - places):
        return f"<${Decimal(1).scaleb(-places):f}"
    return f"${(Decimal(nanousd) / 10**9).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):,f}"


# -- what is shown ------------------------------------------------------------------------------------------------------------


async def test_a_call_appears_without_a_reload(tab: Tab, gateway: Any) -> None:
    """With its team, its status and its cost."""
    await tab.open()
    await tab.page.wait_for_selector(".call-list")
    record = await call(gateway, "appears")
    row = tab.page.locator(".call-list tbody tr", has_text="appears")
    await row.wait_for()
    text = await row.inner_text()
    assert cents(record["cost_nanousd"]) in text
    assert "200" in text
    assert await row.locator("a.open").get_attribute("href") == f"#/call/{record['call_id']}"


async def test_one_call_says_what_it_used_and_cost(tab: Tab, gateway: Any) -> None:
    """The amount to the last place, every unit's count, the parts of its time, whose it was."""
    record = await call(gateway, "search", ("x-tollgate-agent", "planner"), ("x-tollgate-user", "ada"), **TOLD)
    await tab.open(f"call/{record['call_id']}")
    text = await tab.page.locator("main").inner_text()
    assert f"${record['cost_usd']}" in text
    for unit, count in record["usage"].items():
        if count:
            assert re.search(rf"{unit.replace('_', ' ')}\s+{count:,}\b", text), unit
    bill = record["bill"]["lines"]
    rows = [(await row.inner_text()).split("\t") for row in await tab.page.locator(".bill tbody tr").all()]
    assert [row[1] for row in rows] == [f"{line['count']:,}" for line in bill]
    assert [Decimal(row[3].strip("$\n ")) for row in rows] == [Decimal(line["amount_usd"]) for line in bill]
    for said in ("planner", "ada", "search", "gpt-4o-mini", record["trace_id"], record["config_version"]):
        assert said in text
    phases = await tab.page.locator(".waterfall .phase").all_inner_texts()
    assert phases == ["Request read", "Admitted", "Upstream, to first byte", "Stream"]


async def test_a_refused_call_says_why_in_words(tab: Tab, gateway: Any) -> None:
    """And names the budget, with a way to it."""
    record = await call(gateway, "poor")
    assert record["outcome"] == "refused"
    await tab.open(f"call/{record['call_id']}")
    lead = tab.page.locator(".lead")
    assert await lead.inner_text() == "A budget had no room left for what the call may cost. It was team:poor/day."
    await lead.get_by_role("link").click()
    await tab.page.wait_for_selector(".budget-list li")
    assert "team:poor" in await tab.page.locator(".budget-list li").first.inner_text()


async def test_a_limit_is_named_and_no_budget_is_blamed(tab: Tab, gateway: Any) -> None:
    """Which limit refused it stands in the record; budgets that it met as well had room."""
    records = [await call(gateway, "hurried") for _ in range(2)]
    assert records[1]["error_type"] == "rate_limit_exceeded"
    await tab.open(f"call/{records[1]['call_id']}")
    assert await tab.page.locator(".lead").inner_text() == (
        "A limit of requests, tokens or calls at once was reached. It was one a minute (team:hurried, requests per minute)."
    )
    assert "all of it here" in await tab.page.locator(".figures").inner_text()


async def test_a_correlation_id_has_a_time_line(tab: Tab, gateway: Any) -> None:
    """A row for each of its calls, in the order of time, and the sum of what they cost."""
    fields = ("x-correlation-id", "trip-42")
    records = [await call(gateway, team, fields) for team in ("search", "support", "search")]
    await tab.open("request/trip-42")
    await tab.page.wait_for_selector(".timeline li")
    links = await tab.page.locator(".timeline a").evaluate_all("all => all.map(each => each.getAttribute('href'))")
    assert links == [f"#/call/{record['call_id']}" for record in records]
    figures = await tab.page.locator(".figures").inner_text()
    assert cents(sum(record["cost_nanousd"] for record in records)) in figures


async def test_a_budget_shows_what_is_spent_and_left(tab: Tab, gateway: Any) -> None:
    """The figures of the API, and a bar that is as long as its share."""
    await call(gateway, "figures", model="gpt-4o")
    told = json.loads(await look(gateway, "/api/v1/budgets"))["budgets"]
    budget = next(each for each in told if each["scope"] == "team:figures")
    await tab.open("budgets?search=figures")
    row = tab.page.locator(".budget-list li")
    await row.wait_for()
    text = await row.inner_text()
    assert f"{cents(budget['spent_nanousd'], 2)} of {cents(budget['limit_nanousd'], 2)}" in text
    assert f"{cents(budget['remaining_nanousd'], 2)} left" in text
    share = budget["spent_nanousd"] / budget["limit_nanousd"]
    bar, whole = [await row.locator(each).bounding_box() for each in (".meter .spent", ".meter")]
    assert bar["width"] == pytest.approx(share * whole["width"], abs=2)


async def test_a_filter_stands_in_the_address_and_can_be_taken_off(tab: Tab) -> None:
    """Typed once, linked ever after; what is no filter says what is."""
    await tab.open("calls")
    field = tab.page.get_by_role("searchbox", name="Filter calls")
    await field.fill("colour:red")
    await field.press("Enter")
    assert "Nothing is called colour." in await tab.page.locator("#filter-says").inner_text()
    await field.fill("team:support")
    await field.press("Enter")
    await tab.page.wait_for_url("**/#/calls?team=support")
    await tab.page.wait_for_selector(".call-list tbody tr")
    teams = await tab.page.locator(".call-list tbody td:nth-child(2)").evaluate_all(
        "cells => cells.map(each => each.firstChild.textContent)"
    )
    assert set(teams) == {"support"}
    await tab.page.locator(".chips a").click()
    await tab.page.wait_for_url("**/#/calls")


async def test_paused_the_list_stands_still(tab: Tab, gateway: Any) -> None:
    """And says how much was missed; going on shows it."""
    await tab.open("calls")
    await tab.page.wait_for_selector(".call-list")
    pause = tab.page.get_by_role("button", name="Pause")
    await pause.click()
    await call(gateway, "unseen-yet")
    await tab.page.get_by_role("button", name=re.compile(r"Go on \(\d+ new\)")).wait_for()
    assert await tab.page.get_by_text("unseen-yet").count() == 0
    await tab.page.get_by_role("button", name=re.compile("Go on")).click()
    await tab.page.locator(".call-list td", has_text="unseen-yet").first.wait_for()


async def test_a_gateway_that_goes_away_is_said_to(browser: Any, provider: Simulator, tmp_path: Path) -> None:
    """Not live, with a next try; and live again by itself when it is back."""
    config = config_for(tmp_path, provider.url, admin={"port": free_port()}, front={"shutdown_grace": "0s"})
    page = await browser.new_page()
    page.set_default_timeout(40_000)
    async with in_process(tmp_path, config) as gateway:
        await call(gateway, "search")
        await page.goto(f"{gateway.admin_url}/")
        await page.wait_for_selector("#live.live, #live.polling")
    await page.wait_for_selector("#live.off")
    assert re.match(r"not live: .+, next try in \d+ s", await page.locator("#live").inner_text())
    async with in_process(tmp_path, config):
        await page.wait_for_selector("#live.live, #live.polling")
    await page.close()


async def test_where_no_stream_gets_through_it_asks(browser: Any, gateway: Any) -> None:
    """A blocker that takes /api/v1/events away takes nothing else."""
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    await page.route("**/api/v1/events", lambda route: route.abort())
    await page.goto(f"{gateway.admin_url}/#/calls")
    await page.wait_for_selector("#live.polling")
    await call(gateway, "behind-a-blocker")
    await page.locator(".call-list td", has_text="behind-a-blocker").first.wait_for()
    await page.close()


async def test_amounts_are_rounded_as_money_is(tab: Tab) -> None:
    """Half up, in integers, at every number of places: the page against decimal arithmetic."""
    await tab.open("calls")
    chance = random.Random(3)
    asked = [(chance.randrange(10 ** chance.randint(1, 15)), chance.randint(2, 9)) for _ in range(2000)]
    asked += [(5 * 10 ** (8 - places), places) for places in range(2, 9)]
    script = "asked => import('/format.js').then(format => asked.map(([nano, places]) => format.usd(nano, places)))"
    assert await tab.page.evaluate(script, asked) == [cents(nano, places) for nano, places in asked]


async def test_events_are_read_wherever_they_are_cut(tab: Tab) -> None:
    """One character at a time, or all at once; comments and what is no JSON are passed over."""
    await tab.open("calls")
    text = ': hello\n\nretry: 2000\n\nevent: now\ndata: {"at":\ndata: 1}\n\nevent: call\ndata: no json\n\nevent: call\ndata: {"x":"\u00fc"}\n\n'
    script = """([text, step]) => import('/events.js').then(({ parser }) => {
        const found = []; const take = parser((event, data) => found.push([event, data]));
        for (let at = 0; at < text.length; at += step) take(text.slice(at, at + step));
        return found; })"""
    for step in (1, 2, 7, len(text)):
        assert await tab.page.evaluate(script, [text, step]) == [["now", {"at": 1}], ["call", {"x": "\u00fc"}]], step


# -- the first minute ---------------------------------------------------------------------------------------------------------


async def test_an_empty_gateway_says_what_to_do_next(browser: Any, empty: Any) -> None:
    """One variable with the right port, a curl line that works, and the first call changes the page."""
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(f"{empty.admin_url}/")
    await page.get_by_role("heading", name="Nothing has passed yet").wait_for()
    lines = await page.locator(".copyable code").all_inner_texts()
    assert lines[0] == f"export OPENAI_BASE_URL=http://127.0.0.1:{empty.front_port}/v1"
    curl = await asyncio.create_subprocess_shell(lines[1] + " -sS", stdout=asyncio.subprocess.PIPE)
    said, _ = await curl.communicate()
    assert "choices" in json.loads(said)
    await page.wait_for_selector(".call-list tbody tr")
    assert await page.get_by_role("heading", name="Nothing has passed yet").count() == 0
    await page.close()


# -- who may look -------------------------------------------------------------------------------------------------------------


async def test_a_token_is_asked_for_and_kept_in_the_tab_only(browser: Any, locked: Any) -> None:
    """A wrong one is told clearly; the right one lets in, survives a reload, and stands in no address and no other tab."""
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{locked.admin_url}/#/calls")
    field = page.get_by_label("Token")
    await field.fill("wrong")
    await field.press("Enter")
    await page.get_by_text("The gateway does not know this token.").wait_for()
    await field.fill(TOKEN)
    await field.press("Enter")
    await page.wait_for_selector(".call-list tbody tr")
    await page.reload()
    await page.wait_for_selector(".call-list tbody tr")
    assert not [url for url in asked if TOKEN in url]
    assert await page.evaluate("localStorage.length + document.cookie.length") == 0
    other = await context.new_page()
    await other.goto(f"{locked.admin_url}/#/calls")
    await other.get_by_label("Token").wait_for()
    assert await other.locator(".call-list").count() == 0
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("Token").wait_for()
    assert await page.locator("main").inner_text() == "", "whoever comes next reads none of it behind the question"
    assert await page.evaluate("sessionStorage.length") == 0
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Sign in").wait_for()
    await context.close()


async def test_who_may_only_look_sees_no_button_that_changes_things(browser: Any, locked: Any) -> None:
    """A viewer's token, then an operator's in its place: the same views, with and without."""
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(f"{locked.admin_url}/#/keys")
    await page.get_by_label("Token").fill(LOOKER)
    await page.keyboard.press("Enter")
    await page.locator("#who", has_text="grafana viewer").wait_for()
    for view, drawn in (("budgets", ".budget-list li"), ("keys", ".key-list"), ("changes", ".annotations tbody tr")):
        await page.goto(f"{locked.admin_url}/#/{view}")
        await page.wait_for_selector(drawn)
        names = await page.locator("main button").all_inner_texts()
        assert not OPERATORS & set(names), view
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await page.locator("#who", has_text="admin.token operator").wait_for()
    found: set[str] = set()
    for view, drawn in (("budgets", ".budget-list li"), ("keys", ".key-list"), ("changes", ".annotations tbody tr")):
        await page.goto(f"{locked.admin_url}/#/{view}")
        await page.wait_for_selector(drawn)
        found |= set(await page.locator("main button").all_inner_texts())
    assert found >= OPERATORS
    await page.close()


async def test_an_operator_makes_a_key_that_is_shown_once(tab: Tab, gateway: Any) -> None:
    """It stands in the dialog and nowhere afterwards; a second dialog revokes it, and the log of changes says why."""
    await tab.open("keys")
    await tab.page.get_by_role("button", name="New key").click()
    await tab.page.get_by_label("Name").fill("made-here")
    await tab.page.get_by_role("button", name="Make the key").click()
    shown = tab.page.locator("dialog .copyable code")
    await shown.wait_for()
    key = await shown.inner_text()
    assert key.startswith("tg-")
    await tab.page.keyboard.press("Escape")
    row = tab.page.locator(".key-list tbody tr", has_text="made-here")
    await row.wait_for()
    assert key not in await tab.page.content()
    await row.get_by_role("button", name="Revoke").click()
    await tab.page.get_by_label("Reason").fill("only a test")
    await tab.page.get_by_role("button", name="Revoke", exact=True).last.click()
    await tab.page.locator(".key-list tr.revoked", has_text="made-here").wait_for()
    await tab.open("changes")
    await tab.page.locator(".changes tr", has_text="only a test").wait_for()


async def test_an_operator_raises_a_budget_and_says_why(tab: Tab, gateway: Any) -> None:
    """What is wrong with a limit is said at its field; the new one holds, with who and why beside it."""
    await call(gateway, "poor")
    await tab.open("budgets?search=team:poor")
    row = tab.page.locator(".budget-list li").first
    await row.get_by_role("button", name=re.compile("Change")).click()
    limit = tab.page.get_by_label("Limit in dollars")
    await limit.fill("many")
    await tab.page.get_by_role("button", name="Change it").click()
    await tab.page.locator("dialog .bad, dialog .problem:not(:empty)").first.wait_for()
    assert await limit.evaluate("field => field === document.activeElement")
    await limit.fill("3")
    await tab.page.get_by_label("Reason").fill("they are poor no more")
    await tab.page.get_by_role("button", name="Change it").click()
    await tab.page.locator(".budget-list li", has_text="they are poor no more").wait_for()
    text = await tab.page.locator(".budget-list li", has_text="they are poor no more").inner_text()
    assert "of $3.00" in text


async def test_one_account_of_a_wildcard_is_raised_alone(tab: Tab, gateway: Any) -> None:
    """The dialog says for whom a limit holds; alone, the others keep theirs and what was spent counts."""
    await call(gateway, "raised")
    await call(gateway, "not-raised")
    await tab.open("budgets?search=team:raised")
    row = tab.page.locator(".budget-list li", has_text="team:raised")
    await row.get_by_role("button", name=re.compile("Change")).click()
    whom = tab.page.get_by_label("For")
    assert await whom.locator("option").all_inner_texts() == ["each of team:*", "team:raised alone"]
    await whom.select_option("one")
    await tab.page.get_by_label("Limit in dollars").fill("7")
    await tab.page.get_by_role("button", name="Change it").click()
    await tab.page.locator(".budget-list li", has_text="of $7.00").wait_for()
    told = json.loads(await look(gateway, "/api/v1/budgets?limit=500&search=raised"))["budgets"]
    found = {each["scope"]: (each["limit_usd"], each["spent_nanousd"] > 0) for each in told}
    assert found == {"team:raised": ("7.00", True), "team:not-raised": ("2.00", True)}


async def test_a_key_of_the_config_can_be_revoked(browser: Any, locked: Any) -> None:
    """As the API has it: also what stands in the file. Its name, not its id, is in the log of changes."""
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(f"{locked.admin_url}/#/keys")
    await page.get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Revoke from-the-config").click()
    await page.get_by_label("Reason").fill("it leaked")
    await page.get_by_role("button", name="Revoke", exact=True).last.click()
    await page.locator(".key-list tr.revoked", has_text="from-the-config").wait_for()
    await page.goto(f"{locked.admin_url}/#/changes")
    await page.locator(".changes tr", has_text="it leaked").get_by_text("from-the-config").wait_for()
    await page.close()


async def test_a_rare_call_is_found_behind_many_others(browser: Any, provider: Simulator, tmp_path: Path) -> None:
    """The gateway looks at 2,000 records for an answer; the page goes on. A class of statuses is a filter as well."""
    config = config_for(tmp_path, provider.url, budgets=BUDGETS)
    async with in_process(tmp_path, config) as gateway:
        rare = await call(gateway, "poor")
        for _ in range(21):
            await asyncio.gather(*(ask(gateway.front_port, post(CHAT, MINI)) for _ in range(100)))
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        for status in ("429", "4xx"):
            await page.goto(f"{gateway.admin_url}/#/calls?status={status}")
            link = page.locator(".call-list tbody tr", has_text="poor").locator("a.open")
            assert await link.get_attribute("href") == f"#/call/{rare['call_id']}"
        await page.close()


async def test_an_annotation_is_made_and_removed(tab: Tab) -> None:
    """By an operator, with its tags."""
    await tab.open("changes")
    await tab.page.get_by_role("button", name="Add an annotation").click()
    await tab.page.get_by_label("What happened").fill(f"v42 {XSS}")
    await tab.page.get_by_label("Tags").fill("deploy, search")
    await tab.page.get_by_role("button", name="Add it").click()
    row = tab.page.locator(".annotations tbody tr", has_text=f"v42 {XSS}")
    await row.wait_for()
    assert await row.locator(".tag").all_inner_texts() == ["deploy", "search"]
    await row.get_by_role("button", name="Remove").click()
    await tab.page.locator("dialog").get_by_role("button", name="Remove").click()
    await row.wait_for(state="detached")


# -- what must never happen ---------------------------------------------------------------------------------------------------


VIEWS_OF_A_CALL = ("call/{call_id}", "request/{correlation_id}", "calls", "budgets", "", "spend")


async def test_what_callers_send_stays_text(tab: Tab, gateway: Any) -> None:
    """Markup in a team, an agent, a model, a tag or a correlation id is read as it was written, in every view."""
    fields = [("x-tollgate-agent", XSS), ("x-tollgate-tags", f"a={XSS}"), ("x-correlation-id", "x-<b>y</b>")]
    record = await call(gateway, XSS, *fields, model=f"gpt-4o-mini{XSS}")
    for view in VIEWS_OF_A_CALL:
        await tab.open(view.format(**record | {"correlation_id": quote(record["correlation_id"], safe="")}))
        await is_text(tab, is_there=view not in ("spend", "budgets", ""))
    await tab.open("constructor")
    await tab.page.get_by_text("There is no such view.").wait_for()


async def test_what_operators_write_stays_text(browser: Any, empty: Any) -> None:
    """A key's name, a reason, an annotation and its tags: whoever may change things acts as nobody else who looks at them."""
    for method, path, body in (
        ("POST", "keys", {"name": XSS, "team": XSS, "reason": XSS}),
        ("POST", "annotations", {"text": XSS, "tags": [XSS]}),
        ("PUT", "budgets/xss", {"scope": "team:xss", "limit_usd": 1, "reason": XSS}),
    ):
        await done(empty, method, f"/api/v1/{path}", body)
    context = await browser.new_context()
    tab = Tab(await context.new_page(), empty)
    for view in ("keys", "changes", "budgets"):
        await tab.open(view)
        await is_text(tab)
    assert tab.faults == []
    await context.close()


async def is_text(tab: Tab, *, is_there: bool = True) -> None:
    if is_there:
        await tab.page.get_by_text(XSS).first.wait_for()
    assert await tab.page.locator("main img, main b > b, main script").count() == 0
    assert "owned" not in await tab.page.title()


async def test_the_policy_forbids_nothing_that_the_page_does(tab: Tab) -> None:
    """No complaint of the console in any view (the fixture looks), and uPlot drew."""
    for view in VIEWS:
        await tab.open(view)
    await tab.open()
    await tab.page.wait_for_selector(".canvas canvas")


# -- for everybody ------------------------------------------------------------------------------------------------------------


async def test_the_keyboard_is_enough(tab: Tab, gateway: Any) -> None:
    """Skip link first; Tab reaches every link and leaves again; Enter opens a call; Escape closes nothing by force."""
    await call(gateway, "search")
    await tab.open("calls")
    await tab.page.wait_for_selector(".call-list")
    await tab.page.keyboard.press("Tab")
    assert await tab.page.evaluate("document.activeElement.id") == "skip"
    await tab.page.keyboard.press("Enter")
    assert await tab.page.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(12):
        await tab.page.keyboard.press("Tab")
        focus = "[document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle]"
        name, outline = await tab.page.evaluate(focus)
        assert outline != "none", name
        seen.append(name)
        if name == "open":
            break
    assert "open" in seen
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_url("**/#/call/*")
    await tab.page.wait_for_function("document.activeElement.id === 'main'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
async def test_no_view_is_wider_than_the_window(browser: Any, gateway: Any, width: int, scheme: str) -> None:
    """On a phone, a tablet and a desk; dark where the reader's system is."""
    record = await call(
        gateway, "a-team-of-a-very-long-name-that-nobody-would-choose", ("x-correlation-id", f"wide-{width}")
    )
    context = await browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = Tab(await context.new_page(), gateway)
    for view in (*VIEWS, f"call/{record['call_id']}", f"request/wide-{width}"):
        await tab.open(view)
        await tab.page.wait_for_timeout(250)
        assert await tab.page.evaluate("document.documentElement.scrollWidth") <= width, view
    red, green, blue = map(
        int, re.findall(r"\d+", await tab.page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    assert (red + green + blue > 600) == (scheme == "light")
    assert tab.faults == []
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(browser: Any, gateway: Any, scheme: str, axe: str) -> None:
    """Names, roles, contrast, landmarks: axe-core over every view. (It is a script of its own, so the policy is set aside.)"""
    record = await call(gateway, "search", ("x-correlation-id", "axe"))
    context = await browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": 1440, "height": 900})
    tab = Tab(await context.new_page(), gateway)
    for view in (*VIEWS, f"call/{record['call_id']}", "request/axe"):
        await tab.open(view)
        await tab.page.wait_for_timeout(300)
        await tab.page.evaluate(axe)
        found = await tab.page.evaluate("axe.run()")
        bad = [
            (each["id"], [node["html"][:160] for node in each["nodes"][:3]])
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert not bad, view
        assert len(found["passes"]) > 10
    await context.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's text, by npm; skipped by name where it cannot be had."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    packed = subprocess.run(
        [npm, "pack", "--silent", "axe-core@4.14.1"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    if packed.returncode:
        pytest.skip("axe-core cannot be had here")
    subprocess.run(["tar", "xzf", packed.stdout.strip().splitlines()[-1]], cwd=folder, check=True)
    return (folder / "package" / "axe.min.js").read_text()

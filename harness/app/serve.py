"""Serves the page on one machine: its own address only unless asked otherwise, no telemetry, nothing fetched from elsewhere."""

import contextlib
import importlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

from ...organisms.errors import PrerequisiteError, UsageError
from .resident import Resident

HOST, PORT = "127.0.0.1", 7860
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_SHARE": "False"}


def check_installed() -> None:
    """Refuse where Gradio is not there, before anything is loaded."""
    os.environ.update(QUIET)
    try:
        importlib.import_module("gradio")
    except ImportError as error:
        raise PrerequisiteError(
            f"bench app needs Gradio, which is not installed ({error}): pip install 'diffbench[app]'"
        ) from error


def check_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
        PrerequisiteError: it is in use, or this machine has no such address.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((host, port))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise PrerequisiteError(
            f"cannot listen on {host}:{port}: {why}; is another app running there? choose another: --port {port + 1}"
        ) from error


def serve(resident: Resident, host: str = HOST, port: int = PORT) -> tuple[Any, str]:
    """Begin to serve.

    Returns:
        The page, which the caller closes (`wait`), and its address.
    """
    check_installed()
    check_free(host, port)
    from .blocks import blocks, gr

    page = blocks(resident)
    system = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    mono = ("ui-monospace", "Menlo", "Consolas", "monospace")
    css = (Path(__file__).parent / "app.css").read_text(encoding="utf-8")
    try:
        _, address, _ = page.launch(
            prevent_thread_lock=True,
            server_name=host,
            server_port=port,
            share=False,
            inbrowser=False,
            quiet=True,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            theme=gr.themes.Default(primary_hue="blue", font=system, font_mono=mono),
            head=f"<style>{css}</style>",
        )
    except OSError as error:  # somebody was faster
        raise UsageError(f"{host}:{port} cannot be served: {error}; choose another: --port {port + 1}") from error
    return page, address


def wait(page: Any) -> None:
    """Serve until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    page.close(verbose=False)

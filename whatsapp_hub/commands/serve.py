"""``whatsapp-hub serve``: the production server."""

from __future__ import annotations

from pathlib import Path

import click

from whatsapp_hub.commands.database import known_errors
from whatsapp_hub.commands.failures import explain_bind_error
from whatsapp_hub.server import serve
from whatsapp_hub.settings import Settings, load_settings
from whatsapp_hub.telemetry.logs import setup_logging


@click.command(
    "serve",
    short_help="Run the production server.",
    epilog="Example: whatsapp-hub serve --host 127.0.0.1 --port 8080",
)
@click.option("--host", help="Address to listen on; wins over HOST (default 0.0.0.0).")
@click.option("--port", help="Port to listen on; wins over PORT (default 8000).")
@click.option(
    "--sock", type=click.Path(dir_okay=False, path_type=Path), help="Listen on this Unix socket instead of a port."
)
@click.pass_context
def command(ctx: click.Context, *, host: str | None, port: str | None, sock: Path | None) -> None:
    """Run the production server until SIGTERM or SIGINT.

    SIGHUP reopens LOG_FILE and reads LOG_LEVEL and LOG_LEVELS again. A socket that systemd passes is listened at
    instead of any other.

    Its settings come from the environment, from a .env file, from the files that <NAME>_FILE name, and from systemd's
    credentials. It prints nothing but logs, on stderr. Exit status: 0 after a stop, 1 when something died, 2 for
    settings that cannot be used, all of them listed.
    """

    def read_settings() -> Settings:
        return load_settings(overrides={"host": host, "port": port}, serve=True)

    settings = read_settings()
    setup_logging(settings)
    try:
        with known_errors():
            status = serve(settings, unix_socket=sock, read_again=read_settings)
    except OSError as exc:
        failure = explain_bind_error(exc, str(sock) if sock else f"{settings.host} port {settings.port}")
        if failure is None:
            raise
        raise failure from exc
    ctx.exit(status)

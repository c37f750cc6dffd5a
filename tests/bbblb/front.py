"""Runs the load balancer bbblb in front of one BigBlueButton node.

    front.py --bbblb FOLDER --node https://localhost:8443/bigbluebutton/api/ --secret S --ca CA.pem --dir WORK

Prints, once a meeting can be created through it,

    BBBLB_URL=http://127.0.0.1:PORT/bigbluebutton/api/
    BBBLB_SECRET=...
    BBBLB_TENANT=...

and serves until SIGTERM or SIGINT. Its log goes to standard error. Needs the packages of requirements.txt, and bbblb in
FOLDER; `setup` installs both.
"""

import argparse
import asyncio
import hashlib
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

TENANT = "adjourn"

# How often bbblb asks the node for its meetings; also how long it waits for an answer. One failed poll makes it
# forget every meeting of the node, so this must be longer than a busy machine can stall.
POLL_SECONDS = 10

# How long the node may take until a meeting can be created through bbblb.
READY_SECONDS = 60


def main() -> int:
    arguments = parse_arguments()
    # Bound here and handed over, so that nobody can take the port between choosing and using it.
    listener = socket.create_server(("127.0.0.1", 0))
    host = "127.0.0.1:%d" % listener.getsockname()[1]
    tenant_secret = secrets.token_hex(16)

    # bbblb reads its settings from the environment. Python's TLS trusts what SSL_CERT_FILE names.
    sys.path.insert(0, str(arguments.bbblb))
    os.environ |= {
        "PYTHONPATH": str(arguments.bbblb),
        "SSL_CERT_FILE": str(arguments.ca),
        "BBBLB_DOMAIN": "127.0.0.1",
        "BBBLB_SECRET": secrets.token_hex(16),
        "BBBLB_DB": f"sqlite:///{arguments.dir / 'bbblb.db'}",
        "BBBLB_PATH_DATA": str(arguments.dir / "data"),
        "BBBLB_POLL_INTERVAL": str(POLL_SECONDS),
        # A node gets meetings after one good poll, not after six.
        "BBBLB_POLL_RECOVER": "0",
    }
    register(arguments, host, tenant_secret)
    return asyncio.run(serve(listener, f"http://{host}/bigbluebutton/api/", tenant_secret))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="run bbblb in front of one BigBlueButton node")
    parser.add_argument("--bbblb", required=True, type=Path, help="where bbblb is imported from")
    parser.add_argument("--node", required=True, help="https://HOST:PORT/bigbluebutton/api/ of the node")
    parser.add_argument("--secret", required=True, help="the node's secret")
    parser.add_argument("--ca", required=True, type=Path, help="the authority that signed the node's certificate")
    parser.add_argument("--dir", required=True, type=Path, help="an existing directory for the database")
    arguments = parser.parse_args()
    node = urllib.parse.urlsplit(arguments.node)
    if node.scheme != "https" or node.path.rstrip("/") != "/bigbluebutton/api":
        parser.error("bbblb only speaks to nodes at https://HOST:PORT/bigbluebutton/api/")
    arguments.domain = node.netloc
    return arguments


def register(arguments: argparse.Namespace, host: str, tenant_secret: str) -> None:
    """Makes the database, the tenant and the node."""
    bbblb("db", "migrate")
    # The tenant of a request is the one whose realm is the Host header, port included.
    bbblb("tenant", "create", TENANT, "--realm", host, "--secret", tenant_secret)
    bbblb("server", "create", arguments.domain, "--secret", arguments.secret)


def bbblb(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "bbblb", *words], check=True, stdout=sys.stderr)


async def serve(listener: socket.socket, url: str, secret: str) -> int:
    # bbblb reads its settings when it is imported.
    import uvicorn
    from bbblb.asgi import app

    server = uvicorn.Server(uvicorn.Config(app, log_level="info", access_log=False, timeout_graceful_shutdown=5))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    trying = asyncio.create_task(asyncio.to_thread(try_until_ready, url, secret))
    await asyncio.wait({serving, trying}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not serving.done():
            await trying
            print(f"BBBLB_URL={url}\nBBBLB_SECRET={secret}\nBBBLB_TENANT={TENANT}", flush=True)
    except NotReady as reason:
        print(f"front.py: {reason}", file=sys.stderr)
        server.should_exit = True
        await serving
        return 1
    await serving
    return 0


class NotReady(Exception):
    """No meeting could be created through bbblb in time."""


def try_until_ready(url: str, secret: str) -> None:
    """Creates a meeting, looks at it through bbblb, ends it."""
    give_up = time.monotonic() + READY_SECONDS
    while True:
        try:
            request(url, "create", {"meetingID": "front-trial", "name": "trial"}, secret)
            request(url, "getMeetingInfo", {"meetingID": "front-trial"}, secret)
            request(url, "end", {"meetingID": "front-trial"}, secret)
            return
        except (NotReady, OSError) as reason:
            if time.monotonic() > give_up:
                raise NotReady(f"no meeting through bbblb within {READY_SECONDS} s: {reason}") from reason
            time.sleep(0.2)


def request(url: str, call: str, query: dict[str, str], secret: str) -> None:
    """One signed call that must succeed."""
    encoded = urllib.parse.urlencode(query)
    checksum = hashlib.sha256((call + encoded + secret).encode()).hexdigest()
    # Loopback is never behind a proxy, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}{call}?{encoded}&checksum={checksum}", timeout=15) as response:
        answer = ET.fromstring(response.read())
    if answer.findtext("returncode") != "SUCCESS":
        raise NotReady(f"{call}: {answer.findtext('messageKey')}: {answer.findtext('message')}")


if __name__ == "__main__":
    sys.exit(main())

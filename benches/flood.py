#!/usr/bin/env python3
"""How much memory a daemon keeps after a flood, and what a hostile server can make it take.

usage: benches/flood.py [ADJOURN] [SCENARIO..]    (default: target/release/adjourn, all scenarios)

Each scenario has a daemon of its own, and a BigBlueButton made up here that lists what the scenario says; a rule lists it
every 10 seconds. Prints resident memory afterwards (15 s of rest) and at most, in MB.
"""
import http.client, json, os, socket, subprocess, sys, tempfile, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SUBMITS, LISTERS, LISTS, MEETINGS = 10_000, 64, 10, 20_000
LISTING_BYTES = 64 << 20
REST = 15

SCHEDULE = """
[daemon]
state-dir = "{dir}/state"
[control]
socket = "{dir}/control.sock"
[servers.campus]
platform = "bigbluebutton"
url = "http://127.0.0.1:{port}/bigbluebutton/api"
secret = {{ env = "FLOOD_SECRET" }}
front = "direct"
[[rule]]
name = "r"
server = "campus"
match = "*"
max-duration = "4h"
every = "10s"
dry-run = false
"""


def response(inner):
    return f"<response><returncode>SUCCESS</returncode>{inner}</response>".encode()


def meeting(name, meta):
    start = int(time.time() * 1000) - 300_000
    keys = "".join(f"<key-{n}>value {n} of {name}</key-{n}>" for n in range(meta))
    return (
        f"<meeting><meetingName>{name}</meetingName><meetingID>{name}</meetingID>"
        f"<internalMeetingID>{name}-{start}</internalMeetingID><createTime>{start}</createTime>"
        f"<participantCount>3</participantCount><metadata>{keys}</metadata></meeting>"
    )


def listing(prefix, meta):
    return response("<meetings>" + "".join(meeting(f"{prefix}-{n}", meta) for n in range(MEETINGS)) + "</meetings>")


def padded(piece):
    return response("<meetings>" + piece * (LISTING_BYTES // len(piece) - 20) + "</meetings>")


class Bbb:
    """Lists whatever `lists` gives at that moment."""

    def __init__(self, lists):
        self.listings = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = self.path.split("?")[0].rstrip("/")
                if path.endswith("getMeetings"):
                    body = lists()
                    outer.listings += 1
                elif path.endswith("/api"):
                    body = response("<version>2.0</version><bbbVersion>3.0.19</bbbVersion><graphqlWebsocketUrl>w</graphqlWebsocketUrl>")
                else:
                    body = b"<response><returncode>FAILED</returncode><messageKey>notFound</messageKey></response>"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Daemon:
    def __init__(self, adjourn, lists):
        self.dir = tempfile.TemporaryDirectory()
        self.bbb = Bbb(lists)
        port = self.bbb.server.server_address[1]
        schedule = os.path.join(self.dir.name, "schedule.toml")
        with open(schedule, "w") as file:
            file.write(SCHEDULE.format(dir=self.dir.name, port=port))
        self.socket = os.path.join(self.dir.name, "control.sock")
        env = {**os.environ, "FLOOD_SECRET": "flood", "RUST_LOG": "error"}
        self.log = open(os.path.join(self.dir.name, "log"), "w")
        self.process = subprocess.Popen([adjourn, "daemon", "--config", schedule], env=env, stderr=self.log)
        while True:
            try:
                return self.ask("GET", "/v1/status")[1] and None
            except OSError:
                assert self.process.poll() is None, "the daemon does not start"
                time.sleep(0.1)

    def ask(self, method, path, body=None):
        connection = Connection(self.socket)
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, text

    def memory(self, key):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(key)) // 1024

    def sweeps(self, count):
        until = self.bbb.listings + count
        while self.bbb.listings < until:
            time.sleep(0.2)

    def end(self):
        before = self.memory("VmRSS:")
        time.sleep(REST)
        after, most = self.memory("VmRSS:"), self.memory("VmHWM:")
        self.process.terminate()
        self.process.wait()
        return before, after, most


def together(count, work):
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def flood(adjourn):
    """10,000 submits by 16 clients, then 64 that list, and a lawful listing of 20,000 meetings with metadata."""
    lawful = listing("m", 10)
    daemon = Daemon(adjourn, lambda: lawful)

    def submit(thread):
        for n in range(SUBMITS // 16):
            body = {"server": "campus", "meeting": f"flood-{thread}-{n}", "in": "6h"}
            status, text = daemon.ask("POST", "/v1/jobs", body)
            assert status == 201, text

    def lister(_):
        for _ in range(LISTS):
            daemon.ask("GET", "/v1/jobs?limit=1000")

    together(16, submit)
    together(LISTERS, lister)
    daemon.sweeps(3)
    return daemon.end()


def empty_meetings(adjourn):
    """64 MiB of <meeting/>."""
    hostile = padded("<meeting/>")
    daemon = Daemon(adjourn, lambda: hostile)
    daemon.sweeps(3)
    return daemon.end()


def latin(adjourn):
    """64 MiB that are not UTF-8."""
    hostile = response("").replace(b"</resp", b"<!--" + b"\xfc" * (LISTING_BYTES - 200) + b"--></resp")
    daemon = Daemon(adjourn, lambda: hostile)
    daemon.sweeps(3)
    return daemon.end()


def metadata(adjourn):
    """64 MiB of metadata in small pieces."""
    keys = "".join(f"<{n:x}>v</{n:x}>" for n in range(256))
    piece = f"<meeting><meetingID>m</meetingID><metadata>{keys}</metadata></meeting>"
    hostile = padded(piece)
    daemon = Daemon(adjourn, lambda: hostile)
    daemon.sweeps(3)
    return daemon.end()


def new_ids(adjourn):
    """20,000 ever new meetings in each of 6 listings."""
    count = iter(range(1_000_000))
    daemon = Daemon(adjourn, lambda: listing(f"new-{next(count)}", 2))
    daemon.sweeps(6)
    return daemon.end()


SCENARIOS = {"flood": flood, "empty-meetings": empty_meetings, "latin": latin, "metadata": metadata, "new-ids": new_ids}


def main():
    arguments = sys.argv[1:]
    adjourn = arguments.pop(0) if arguments and arguments[0] not in SCENARIOS else "target/release/adjourn"
    print("| scenario | resident right after | after 15 s of rest | at most |\n|---|---|---|---|")
    for name in arguments or SCENARIOS:
        before, after, most = SCENARIOS[name](os.path.abspath(adjourn))
        print(f"| {name} | {before} MB | {after} MB | {most} MB |", flush=True)


if __name__ == "__main__":
    main()

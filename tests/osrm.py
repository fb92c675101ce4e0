"""A router: a real HTTP server that answers as OSRM does, or as it does on a bad day."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


def found(seconds: float, off_road_m: float = 3.2) -> dict[str, Any]:
    """An answer of OSRM 5.27 to `?overview=false`, with other places."""
    waypoint = {"hint": "LjQA", "distance": off_road_m, "name": "", "location": [13.4, 52.5]}
    leg = {"steps": [], "distance": 1884.8, "duration": seconds, "summary": "", "weight": 251.1}
    route = {"legs": [leg], "weight_name": "routability", "weight": 251.1, "duration": seconds,
             "distance": 1884.8}  # fmt: skip
    return {"code": "Ok", "routes": [route], "waypoints": [waypoint, waypoint]}


class Osrm:
    """Answers every path with `status` and `body`, once `let` is set; remembers the paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers = dict[str, str]()
        self.let = threading.Event()
        self.let.set()
        self.answers(found(100.0))
        self._server = self._listening(0)
        self.port = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self, body: dict[str, Any] | bytes, status: int = 200) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status

    def places(self) -> list[list[tuple[float, float]]]:
        """Longitude and latitude of where from and where to, of each question."""
        paths = [urllib.parse.urlsplit(each).path.rpartition("/")[2] for each in self.asked]
        return [
            [(float(place.split(",")[0]), float(place.split(",")[1])) for place in path.split(";")]
            for path in paths
        ]

    def _listening(self, port: int) -> ThreadingHTTPServer:
        osrm = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                osrm.asked.append(self.path)
                osrm.let.wait(30)
                self.send_response(osrm.status)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Content-Length", str(len(osrm.body)))
                for header in osrm.headers.items():
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(osrm.body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Who asked has gone."""

        server = Server(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def stop(self) -> None:
        """Nobody listens there any more."""
        self.let.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

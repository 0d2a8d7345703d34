"""Tiny programs that stand for parts."""

import sys

SERVER = """
import http.server, signal, sys, os, json
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = not os.path.exists(sys.argv[2])
        self.send_response(200 if ok else 503); self.end_headers(); self.wfile.write(b"no" if not ok else b"yes")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(json.dumps({"pid": os.getpid()}), flush=True)
try:
    server.serve_forever()
finally:
    with open(sys.argv[3], "a") as file: file.write(sys.argv[4] + chr(10))
"""

# Starts a grandchild in a session of its own that ignores SIGTERM, as Ray's do, and tells its id.
FAMILY = """
import os, signal, subprocess, sys, time
stubborn = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
with open(sys.argv[1], "a") as file: file.write(str(child.pid) + chr(10))
time.sleep(600)
"""


def python(program: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", program, *map(str, arguments))


# Takes over a Unix socket's name as the ledger does, answers each connection with its own number, and ends what it has begun when told to stop.
SUCCESSOR = """
import os, signal, socket, sys, threading, time
path, sick = sys.argv[1:3]
if os.path.exists(sick): sys.exit("the new one is broken")
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
own = path + "." + str(os.getpid())
listener.bind(own); listener.listen(64); os.rename(own, path)
signal.signal(signal.SIGTERM, lambda *_: listener.shutdown(socket.SHUT_RDWR))
def answer(peer):
    time.sleep(0.05); peer.sendall(str(os.getpid()).encode()); peer.close()
while True:
    try: peer, _ = listener.accept()
    except OSError: break
    threading.Thread(target=answer, args=(peer,)).start()
"""

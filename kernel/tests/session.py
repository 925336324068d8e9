"""A kernel under test: starts it, runs cells, collects messages with the time they came."""

import time
from queue import Empty

from jupyter_client.manager import KernelManager

KERNEL = "lafter"
PATIENCE = 120  # seconds for a cell


class Session:
    """One running kernel."""

    def __init__(self, **options):
        self.started = time.monotonic()
        self.manager = KernelManager(kernel_name=KERNEL)
        self.manager.start_kernel(**options)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.ready = time.monotonic() - self.started

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, code, **options):
        return self.client.execute(code, **options)

    def collect(self, request, meanwhile=None, patience=PATIENCE, answer=None):
        """The reply's content and all output of a request; `meanwhile(message)` is called at every output."""
        result = Result()
        began = time.monotonic()
        while not (result.idle and result.reply):
            if time.monotonic() - began > patience:
                raise AssertionError(f"no end after {patience} s: {result.messages}")
            try:
                message = self.client.get_iopub_msg(timeout=0.02)
                if message["parent_header"].get("msg_id") == request:
                    if message["msg_type"] == "status":
                        result.idle = message["content"]["execution_state"] == "idle"
                    else:
                        result.messages.append((time.monotonic() - began, message["msg_type"], message["content"]))
                        if meanwhile:
                            meanwhile(message)
            except Empty:
                pass
            try:
                message = self.client.get_shell_msg(timeout=0)
                if message["parent_header"].get("msg_id") == request:
                    result.reply = message["content"]
                    result.seconds = time.monotonic() - began
            except Empty:
                pass
            if answer is not None:
                try:
                    self.client.get_stdin_msg(timeout=0)
                    self.client.input(answer)
                except Empty:
                    pass
        return result

    def run(self, code, **options):
        collecting = {key: options.pop(key) for key in ("meanwhile", "patience", "answer") if key in options}
        return self.collect(self.send(code, **options), **collecting)

    def ask(self, request):
        """The reply's content of a completion, inspection, history request."""
        while True:
            message = self.client.get_shell_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") == request:
                return message["content"]


class Result:
    def __init__(self):
        self.messages, self.reply, self.idle, self.seconds = [], None, False, None

    @property
    def status(self):
        return self.reply["status"]

    @property
    def error(self):
        return self.reply.get("evalue", "")

    def text(self, name="stdout"):
        return "".join(content["text"] for _, kind, content in self.messages if kind == "stream" and content["name"] == name)

    def kinds(self):
        return [kind for _, kind, _ in self.messages if kind not in ("execute_input",)]

    def data(self, kind="execute_result"):
        return [content["data"] for _, found, content in self.messages if found == kind]

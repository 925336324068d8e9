"""Front ends that come and go, or talk nonsense: the kernel outlives them."""

import json
import socket
import time
import unittest

import zmq
from jupyter_client.session import Session as Messages

from session import Session


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.session = Session()

    @classmethod
    def tearDownClass(cls):
        cls.session.close()

    def setUp(self):
        self.ports = self.session.manager.get_connection_info()

    def tearDown(self):
        self.assertTrue(self.session.manager.is_alive(), "the kernel is gone")
        result = self.session.run("6 * 7")
        self.assertEqual(result.data()[0]["text/plain"], "42")

    def dealer(self, channel):
        dealer = zmq.Context.instance().socket(zmq.DEALER)
        dealer.linger = 100
        dealer.connect(f"tcp://127.0.0.1:{self.ports[channel]}")
        return dealer

    def test_who_does_not_wait_for_the_reply(self):
        messages = Messages(key=self.ports["key"])
        for pause in (0, 0.01, 0.05, 0.2):
            for channel in ("shell_port", "control_port"):
                dealer = self.dealer(channel)
                messages.send(dealer, "kernel_info_request")
                time.sleep(pause)
                dealer.close(linger=100)
            dealer = self.dealer("shell_port")
            code = "std::thread::sleep(std::time::Duration::from_millis(300));"
            messages.send(dealer, "execute_request", {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False})
            time.sleep(0.1 + pause)
            dealer.close(linger=0)
        time.sleep(1.5)

    def test_bytes_that_are_no_messages(self):
        for channel in ("shell_port", "control_port", "stdin_port", "hb_port", "iopub_port"):
            for garbage in (b"", b"\0", b"GET / HTTP/1.0\r\n\r\n", b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + b"\0" * 48, b"\xff" * 100_000):
                with socket.create_connection(("127.0.0.1", self.ports[channel]), timeout=5) as plain:
                    try:
                        plain.sendall(garbage)
                    except OSError:
                        pass  # it hung up
        time.sleep(0.3)

    def test_messages_that_are_none(self):
        for channel in ("shell_port", "control_port", "stdin_port"):
            dealer = self.dealer(channel)
            empty = [b"{}"] * 4
            for parts in ([b"x"], [b"<IDS|MSG>"], [b"<IDS|MSG>", b"no signature"] + empty, [b"<IDS|MSG>", b"", b"{}"]):
                dealer.send_multipart(parts)
            messages = Messages(key=self.ports["key"])
            signed = lambda header: [b"<IDS|MSG>", messages.sign([header, *empty[1:]]), header, *empty[1:]]
            for header in (b"{}", b"no JSON", json.dumps({"msg_id": "1", "msg_type": "unknown", "session": "s", "username": "u", "date": "2026-01-01T00:00:00Z", "version": "5.3"}).encode()):
                dealer.send_multipart(signed(header))
            time.sleep(0.2)
            dealer.close(linger=100)


if __name__ == "__main__":
    unittest.main()

"""Prints what is promised in seconds and bytes: medians, not assertions. Seconds depend on the machine; what holds on another one is
their ratio to the time of rustc for a library that does nothing, measured in the same run.

python timings.py [--cells 20]
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

import psutil
from jupyter_client.manager import KernelManager

from session import KERNEL, Session


def kernel_info():
    """Seconds from the start of the process to its first kernel_info reply."""
    manager = KernelManager(kernel_name=KERNEL)
    started = time.monotonic()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    while True:
        client.kernel_info()
        try:
            client.get_shell_msg(timeout=0.2)
            break
        except Exception:  # not listening yet
            continue
    seconds = time.monotonic() - started
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return seconds


def first_tensor():
    with Session() as session:
        result = session.run("let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;")
        assert result.status == "ok", result.reply
        return time.monotonic() - session.started


def memory(session):
    """Resident bytes of the kernel and its children, shared pages counted once."""
    kernel = psutil.Process(session.manager.provisioner.process.pid)
    return sum(process.memory_full_info().pss for process in [kernel, *kernel.children(recursive=True)])


def trivial_rustc():
    """Seconds of the compiler for a library that does nothing: cells are measured against it, whatever the machine."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "nothing.rs"
        source.write_text("#[unsafe(no_mangle)] pub extern \"C\" fn nothing() {}")
        began = time.monotonic()
        subprocess.run(["rustc", "--edition=2024", "--crate-type=cdylib", "-o", source.with_suffix(".so"), source], check=True)
        return time.monotonic() - began


def show(what, values, limit, rustc=None):
    median = statistics.median(values)
    ratio = f"{median / rustc:6.1f} x rustc" if rustc else " " * 14
    print(f"{what:44} {median:6.2f} {ratio}   ({min(values):.2f} to {max(values):.2f}, {len(values)} times; promised {limit})", flush=True)


def cells(session, code, n):
    """Seconds of cells that were never compiled before, as a kernel keeps those that were; and of each, those that it ran."""
    values, ran, new = [], [], time.time_ns() // 10**6 % 10**9
    for i in range(n):
        result = session.run("%%time\n" + code.replace("NUMBER", str(new + i)))
        assert result.status == "ok", result.reply
        values.append(result.seconds)
        ran.append(float(re.search(r"ran ([0-9.]+) s, after", result.text())[1]))
    return values, ran


def show_cells(what, session, code, n, limit, rustc):
    values, ran = cells(session, code, n)
    show(what, values, limit, rustc)
    ran = statistics.median(ran)
    print(f"{'':44} of these {ran:.2f} running, {statistics.median(values) - ran:.2f} compiling and loading", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=20)
    n = parser.parse_args().cells
    trivial = [trivial_rustc() for _ in range(5)]
    rustc = statistics.median(trivial)
    show("rustc of a trivial library, s", trivial, "none: the machine's measure")
    show("kernel_info after, s", [kernel_info() for _ in range(3)], "1", rustc)
    show("first cell with a tensor after, s", [first_tensor() for _ in range(3)], "10, then 6", rustc)
    with Session() as session:
        session.run("let t = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;")
        for what, code, limit in (
            ("trivial cell (let a = 1), s", "let a = NUMBER;", "0.8"),
            ("trivial cell (println), s", 'println!("{}", NUMBER);', "0.8"),
            ("library cell (encode a text), s", "let clip = Clip::demo()?; let f = clip.encode_text(&[\"a fish NUMBER\"])?;", "1.2"),
            ("library cell, value shown, s", "clip.encode_text(&[\"a fish NUMBER\"])?", "1.2"),
        ):
            show_cells(what, session, code, n, limit, rustc)
        complete = []
        for _ in range(5):
            began = time.monotonic()
            session.ask(session.client.complete("clip.enco", 9))
            complete.append(time.monotonic() - began)
        show("completion, s", complete, "1", rustc)
        time.sleep(2)
        show("memory of an idle session, GiB", [memory(session) / 2**30], "1.2")


if __name__ == "__main__":
    main()

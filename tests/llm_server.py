"""Runs `lafter describe` against a server written by others: `transformers serve` with a tiny random Llama made here.

    pip install torch accelerate "transformers[serving]"
    cargo build
    python tests/llm_server.py target/debug/lafter

Random weights write gibberish, so what is checked is the conversation: both APIs, every request answered and in the
journal, limits and stop strings understood, an unknown model refused in one line, and a second run that asks nothing.
(This server ends an answer at the token that holds a stop string and leaves the token in; cleaning cuts it.) Prints one line a check, and fails with the first that does not hold.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LINES = """Describe what an owl looks like. How can you identify a boat? What does a river look like from a satellite?
A boat has a wide hull and a tall mast. An owl has large eyes. It is a bird that flies at night over the forest."""
TEMPLATE = (
    "{% for message in messages %}{{ '<|user|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_model(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(LINES.splitlines(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", chat_template=TEMPLATE)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, eos_token_id=fast.eos_token_id, bos_token_id=None, pad_token_id=fast.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.do_sample = True  # as instruction models say; otherwise this server ignores the temperature
    model.save_pretrained(folder)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(address, server):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(240):
        if server.poll() is not None:
            raise SystemExit(f"the server ended with status {server.returncode}")
        try:
            direct.open(f"{address}/health", timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the server did not start within two minutes")


def main():
    lafter = Path(sys.argv[1] if len(sys.argv) > 1 else "target/debug/lafter").resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "tiny-llama"
        make_model(model)
        (folder / "names.txt").write_text("owl\nhourglass\n犬\n", encoding="utf-8")
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        environment = dict(os.environ, HF_HUB_OFFLINE="1", NO_PROXY="127.0.0.1")
        command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
        server = subprocess.Popen(command, env=environment, stdout=(folder / "server.log").open("w"), stderr=subprocess.STDOUT)
        try:
            wait_for(address, server)

            def describe(out, *extra, llm=str(model)):
                arguments = [lafter, "describe", "--classes", folder / "names.txt", "--out", folder / out, "--endpoint", address, "--llm", llm]
                return subprocess.run([*map(str, arguments), *extra], capture_output=True, text=True, env=environment, timeout=300)

            def records(out):
                path = folder / out.replace(".json", ".journal.jsonl")
                return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

            def check(what, holds, result):
                if not holds:
                    log = (folder / "server.log").read_text(encoding="utf-8")[-3000:]
                    raise SystemExit(f"FAILED: {what}\nstatus {result.returncode}\n{result.stdout}\n{result.stderr}\nserver:\n{log}")
                print(f"ok: {what}")

            # gibberish may leave no usable sentence: status 1 then, with everything in the journal
            usable = lambda r: r.returncode == 0 or "holds a usable sentence" in r.stderr
            r = describe("chat.json", "--completions", "2", "--concurrency", "4", "--max-tokens", "24")
            answers = records("chat.json")
            check(f"chat: 30 requests, {len(answers)} answers", usable(r) and len(answers) == 30, r)
            check("chat: answers differ by seed", len({a["answer"] for a in answers}) > 15, r)
            check("chat: the limit of tokens is reported as such", any(a["finish"] == "length" for a in answers), r)
            r = describe("chat.json", "--completions", "2", "--max-tokens", "24", "--json")
            if r.returncode == 0:
                check("chat: the second run asks nothing", json.loads(r.stdout)["asked"]["known"] == 30, r)
            check("chat: the journal did not grow", len(records("chat.json")) == 30, r)
            r = describe("completion.json", "--api", "completion", "--completions", "1", "--max-tokens", "24", "--stop", "e", "--retries", "1")
            answers = records("completion.json")
            check(f"completion: 15 requests, {len(answers)} answers", usable(r) and len(answers) == 15, r)
            # a random model may also end by itself, so not every answer holds the string; none goes on behind its token
            at_stop = sum("e" in a["answer"] for a in answers)
            check(f"completion: {at_stop} answers end at the stop string", at_stop >= 8 and not any("e" in a["answer"][:-8] for a in answers), r)
            r = describe("none.json", "--completions", "1", "--retries", "0", llm="nobody/no-such-model")
            errors = [line for line in r.stderr.splitlines() if line.startswith("error: ")]
            check(f"an unknown model: {errors}", r.returncode == 1 and len(errors) == 1, r)
            print(f"transformers {transformers.__version__}, torch {torch.__version__}: all checks hold")
        finally:
            server.terminate()
            server.wait(timeout=30)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Starts of servers as public reports have them: which an engine refuses, which hold, and which nobody can tell, each said first.

usage: GPUWASTE=target/debug/gpuwaste python3 tests/situations/test_starts.py
"""
import json, subprocess, unittest

from test_manifests import BINARY, LARGE, LLAMACPP, SGLANG, SMALL, TGI, VLLM, Manifests, deployment, of, spec

EIGHT = "meta-llama/Llama-3.1-8B-Instruct"
CARD = {"H100": "NVIDIA-H100-80GB-HBM3", "H200": "NVIDIA-H200", "A100": "NVIDIA-A100-SXM4-80GB", "L40S": "NVIDIA-L40S", "L4": "NVIDIA-L4", "T4": "Tesla-T4", "V100": "Tesla-V100-SXM2-16GB"}
OLD = "vllm/vllm-openai:v{}"
GGUF = ["-hf", "bartowski/Llama-3.3-70B-Instruct-GGUF:Q4_K_M"]


def fit(model, *args):
    done = subprocess.run([BINARY, "fit", model, *map(str, args), "--format", "json"], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)["placements"][0]


class Starts(Manifests):
    def on(self, card, *args, **more):
        self.check(deployment(args=list(args) or None, select={"nvidia.com/gpu.product": CARD[card]}, **more))
        return [f["fix"]["summary"] for f in self.report["findings"] if f["check"] == "undersized-tier"]

    def refused(self, why, card, *args, **more):
        found = self.on(card, *args, **more)
        self.assertEqual(len(found), 1, (card, args, self.reasons()))
        self.assertIn(why, found[0])
        return found[0]

    def starts(self, card, *args, **more):
        self.assertEqual(self.on(card, *args, **more), [], (card, args))
        self.assertFalse([r for r in self.reasons("undersized-tier")], args)

    def unknown(self, card, *args, **more):
        self.assertEqual(self.on(card, *args, **more), [], (card, args))
        self.assertTrue(self.reasons("undersized-tier"), args)

    def reasons(self, check=None):
        return [n["reason"] for c in self.report["checks"] if check in (None, c["id"]) for n in c.get("not_assessed", [])]

    # --- what engines refuse, whatever the memory ---

    def test_kv_heads_that_come_out_uneven(self):
        """Phi-4 has ten KV heads: neither divided nor replicated over four ranks. Over two and ten they are; four over eight are copied."""
        for model, ranks, good in (("microsoft/phi-4", 4, False), ("microsoft/phi-4", 2, True), ("microsoft/Phi-3-medium-128k-instruct", 4, False), ("meta-llama/Llama-3.2-3B-Instruct", 3, False), ("HuggingFaceTB/SmolLM2-135M-Instruct", 3, True), ("meta-llama/Llama-3.3-70B-Instruct", 16, True)):
            told = fit(model, "--gpu", "H100", "--tp", ranks, "--max-model-len", 4096, "--engine-version", "0.11.0")
            self.assertEqual(told["verdict"] != "does-not-fit", good, (model, ranks, told["reason"]))
        self.refused("10 KV heads", "L40S", "--model", "microsoft/phi-4", "-tp", "4", gpus=4)
        # llama.cpp cuts layers, not heads.
        self.assertEqual(fit("microsoft/phi-4", "--engine", "llamacpp", "--quantization", "Q4_K_M", "--gpu", "L4", "--tp", 4, "--max-model-len", 4096)["verdict"], "fits")

    def test_steps_that_hold_no_prompt(self):
        """Without chunked prefill a step has to hold a whole prompt; and at least one token a sequence."""
        self.refused("below max_model_len 8192", "H100", "--model", SMALL, "--max-model-len", "8192", "--max-num-batched-tokens", "2048", "--no-enable-chunked-prefill")
        self.starts("H100", "--model", SMALL, "--max-model-len", "8192", "--max-num-batched-tokens", "2048")
        self.refused("below max_num_seqs 512", "H100", "--model", SMALL, "--max-model-len", "4096", "--max-num-batched-tokens", "256", "--max-num-seqs", "512")
        # vLLM's first engine chunks only where told.
        self.refused("below max_model_len", "H100", "--model", EIGHT, "--max-model-len", "4096", "--max-num-batched-tokens", "512", image=OLD.format("0.6.3"))
        self.starts("H100", "--model", EIGHT, "--max-model-len", "4096", "--max-num-batched-tokens", "512", "--enable-chunked-prefill", image=OLD.format("0.6.3"))

    def test_models_that_are_gone(self):
        """Llama 3.2 Vision ran until 0.10.2 (vLLM's registry names it). Of an unknown release nobody knows."""
        at = lambda *version: fit("meta-llama/Llama-3.2-11B-Vision-Instruct", "--gpu", "H100", "--tp", 1, "--max-model-len", 4096, "--max-num-seqs", 8, *version)
        self.assertIn("until 0.10.2", at("--engine-version", "0.14.0")["reason"])
        self.assertNotIn("until", at("--engine-version", "0.10.2")["reason"])
        self.assertNotIn("until", at()["reason"])

    def test_the_length_of_what_embeds(self):
        """gte-Qwen2's file for sentence-transformers says 32,768, its config 131,072: where nothing is stated the shorter may hold. Stated, it has to."""
        gte = ("--model", "Alibaba-NLP/gte-Qwen2-7B-instruct", "--runner", "pooling")
        self.unknown("L4", *gte)
        self.refused("one request of 131072", "L4", *gte, "--max-model-len", "131072")
        self.starts("L4", *gte, "--max-model-len", "8192")

    def test_encoders_that_run_alone(self):
        """The encoder of a split server loads no language model and keeps no cache: what it takes nobody knows. The side that decodes is a server."""
        eyes = ("--model", "Qwen/Qwen2.5-VL-7B-Instruct")
        config = lambda role: '{"ec_connector": "ECExampleConnector", "ec_role": "%s"}' % role
        for more in (["--mm-encoder-only"], ["--convert", "mm_encoder_only"], ["--ec-transfer-config", config("ec_producer"), "--gpu-memory-utilization", "0.35"]):
            self.unknown("L4", *eyes, *more)
        self.refused("one request of", "L4", *eyes, "--ec-transfer-config", config("ec_consumer"))
        self.unknown("L4", command=["python3", "-m", "sglang.launch_server", "--model-path", "Qwen/Qwen2.5-VL-7B-Instruct", "--encoder-only"], image=SGLANG)

    def test_adapters_of_a_rank_that_is_none(self):
        """vLLM takes ranks of a list. Without adapters nobody looks at it."""
        lora = ("--model", SMALL, "--max-model-len", "4096", "--max-lora-rank")
        self.refused("max_lora_rank 48", "H100", *lora, "48", "--enable-lora")
        self.starts("H100", *lora, "64", "--enable-lora")
        self.starts("H100", *lora, "48")

    def test_an_fp8_cache_on_cards_before_ada(self):
        """Triton's kernels refuse e4m3 there (vllm#26431), FlashInfer's read it: nobody can tell. Told by a server that runs, it is measured."""
        cache = lambda how: ("--model", EIGHT, "--kv-cache-dtype", how, "--max-model-len", "4096")
        for how in ("fp8", "fp8_e4m3"):
            self.unknown("A100", *cache(how))
            self.starts("H100", *cache(how))
            self.starts("L40S", *cache(how))
        self.starts("A100", *cache("fp8_e5m2"))
        self.starts("A100", *cache("auto"))

    def test_cards_without_bfloat16(self):
        """vLLM asked for `--dtype half` until 0.8.5; Gemma runs in no float16, and so takes twice the memory there, or does not start."""
        small = ("--model", "Qwen/Qwen2.5-3B-Instruct", "--max-model-len", "4096", "--max-num-seqs", "8")
        self.refused("--dtype half", "T4", *small, image=OLD.format("0.7.3"))
        self.starts("T4", *small, "--dtype", "half", image=OLD.format("0.7.3"))
        self.starts("L4", *small, image=OLD.format("0.7.3"))
        self.assertEqual(self.on("T4", *small), [], "it falls back since")
        gemma = ("--model", "google/gemma-3-4b-it", "--max-model-len", "4096")
        self.refused("in float16", "T4", *gemma, "--dtype", "half")
        self.assertIn("weights take 16", self.refused("nothing is left", "T4", *gemma))
        self.refused("in float16", "H100", *gemma, "--dtype", "float16")
        self.refused("no bfloat16", "T4", "--model", "RedHatAI/gemma-3-27b-it-quantized.w4a16", "--max-model-len", "4096", "-tp", "4", gpus=4)
        self.starts("H100", *gemma)

    def test_a_way_to_quantize_that_a_repository_has_not(self):
        """awq and gptq are read from a checkpoint; fp8 and bitsandbytes are made while loading. Of a path nobody knows."""
        for how, image in (("awq", VLLM), ("gptq_marlin", VLLM), ("compressed-tensors", VLLM)):
            self.refused("is not quantized", "H100", "--model", EIGHT, "--quantization", how, "--max-model-len", "4096", image=image)
        self.refused("is not quantized", "H100", "--model-id", EIGHT, "--quantize", "gptq", "--max-total-tokens", "4096", image=TGI)
        self.starts("H100", "--model", EIGHT, "--quantization", "bitsandbytes", "--max-model-len", "4096")
        self.starts("H100", "--model", "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4", "--quantization", "awq_marlin", "--max-model-len", "4096")
        self.assertEqual(self.on("H100", "--model", "/models/Llama-3.1-8B-Instruct", "--quantization", "awq", "--max-model-len", "4096"), [])

    def test_the_length_in_every_way_it_is_stretched(self):
        """Parts of JSON by dots, as vLLM's parser takes them: the model is stretched, and its shape is unread where it changes."""
        long = ("--model", SMALL, "--max-model-len", "131072")
        self.refused("beyond the model's", "H100", *long)
        for more in (["--hf-overrides.rope_scaling.rope_type", "yarn", "--hf-overrides.rope_scaling.factor", "4.0"], ["--hf-overrides.rope_parameters.factor=4.0"], ["--hf_overrides", '{"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}']):
            self.starts("H100", *long, *more)
        self.unknown("H100", "--model", LARGE, "--hf-overrides.num_hidden_layers", "4")
        self.assertEqual(self.on("H100", *long, env={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}), [])

    def test_groups_and_blocks_that_are_cut(self):
        """13,824 columns in groups of 128 over eight ranks are 13.5 groups each; a copy whose width nobody knows may be padded."""
        at = lambda model, ranks, *more: fit(model, "--gpu", "H100", "--tp", ranks, "--max-model-len", 4096, "--engine-version", "0.10.0", *more)
        self.assertIn("quantization group of 128", at("Qwen/Qwen2.5-14B-Instruct-AWQ", 8)["reason"])
        self.assertEqual(at("Qwen/Qwen2.5-14B-Instruct-AWQ", 4)["verdict"], "fits")
        self.assertEqual(at("Qwen/Qwen2.5-3B-Instruct-AWQ", 4)["verdict"], "tight")
        self.assertEqual(at("Qwen/Qwen2.5-3B-Instruct-AWQ", 2)["verdict"], "fits")
        self.assertEqual(at("RedHatAI/Llama-3.3-70B-Instruct-quantized.w4a16", 8)["verdict"], "fits")
        self.assertIn("fp8 block of 128", at("Qwen/Qwen3-4B-FP8", 8)["reason"])
        self.assertEqual(at("RedHatAI/Qwen3-4B-FP8-dynamic", 8)["verdict"], "fits", "by channel, not by block")
        self.refused("quantization group", "L4", "--model", "Qwen/Qwen2.5-14B-Instruct-AWQ", "-tp", "8", "--max-model-len", "4096", gpus=8)

    def test_kernels_that_came_later(self):
        """Marlin's for Turing serve fp8 weights on a T4 since 0.14; NVIDIA's own copies ask for Ampere still."""
        at = lambda model, version: fit(model, "--gpu", "T4", "--tp", 1, "--max-model-len", 4096, "--max-num-seqs", 8, "--engine-version", version)["verdict"]
        copy = "RedHatAI/Qwen2.5-7B-Instruct-FP8-dynamic"
        self.assertEqual((at(copy, "0.11.0"), at(copy, "0.20.0")), ("does-not-fit", "fits"))
        self.refused("7.5", "T4", "--model", "nvidia/Llama-3.1-8B-Instruct-FP8", "--max-model-len", "4096", image=OLD.format("0.20.0"))
        self.refused("7.5", "T4", "--model", "openai/gpt-oss-20b", image=OLD.format("0.20.0"))

    def test_sglangs_own_limit_of_lengths(self):
        """It refuses what is longer than the model, too, unless a variable or an override allows it."""
        serve = lambda *more: ["python3", "-m", "sglang.launch_server", "--model-path", SMALL, "--context-length", "131072", *more]
        self.refused("beyond the model's", "H100", command=serve(), image=SGLANG)
        self.starts("H100", command=serve(), image=SGLANG, env={"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"})
        self.starts("H100", command=serve("--json-model-override-args", '{"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}'), image=SGLANG)

    # --- memory while and after loading ---

    def test_weights_that_are_quantized_while_loading(self):
        """Until 0.15 vLLM holds all of the 16-bit weights first: 28 GiB of a 14B on 22. A checkpoint in fp8 is never that large."""
        make = ("--quantization", "fp8", "--gpu", "L4", "--tp", 1, "--max-model-len", 4096, "--max-num-seqs", 8)
        fourteen = "Qwen/Qwen2.5-14B-Instruct"
        self.assertEqual(fit(fourteen, *make, "--engine-version", "0.8.5")["verdict"], "does-not-fit")
        self.assertEqual(fit(fourteen, *make, "--engine-version", "0.14.0")["verdict"], "does-not-fit")
        self.assertNotEqual(fit(fourteen, *make, "--engine-version", "0.16.0")["verdict"], "does-not-fit")
        self.assertNotEqual(fit("RedHatAI/Qwen2.5-14B-Instruct-FP8-dynamic", *make, "--engine-version", "0.8.5")["verdict"], "does-not-fit")
        self.assertEqual(fit(EIGHT, *make, "--engine-version", "0.8.5")["verdict"], "fits")
        # Of SGLang the release that mended it is not known.
        self.assertEqual(fit(fourteen, "--engine", "sglang", "--quantization", "fp8", "--gpu", "L4", "--tp", 1, "--max-model-len", 4096)["verdict"], "tight")
        self.refused("before they are quantized", "H100", "--model", LARGE, "--quantization", "fp8", "--max-model-len", "4096")
        self.assertEqual(self.on("H100", "--model", LARGE, "--quantization", "fp8", "--max-model-len", "4096", "-tp", "2", gpus=2), [])

    def test_what_a_word_for_bits_means(self):
        """TGI's bitsandbytes is 8 bit, vLLM's 4; eetq is 8 bit; of deepspeedfp and unknown words nobody knows the bits."""
        at = lambda engine, how: (fit(EIGHT, "--engine", engine, "--quantization", how, "--gpu", "H100", "--max-model-len", 4096)["weights_bytes_per_gpu"] or 0) / 2**30
        self.assertTrue(5 < at("vllm", "bitsandbytes") < 6.5)
        self.assertTrue(7.5 < at("tgi", "eetq") < 9.5)
        for how in ("deepspeedfp", "someday4"):
            self.unknown("L4", "--model", LARGE, "--quantization", how)
        self.refused("weights take", "L4", "--model-id", EIGHT, "--quantize", "bitsandbytes", "--max-total-tokens", "131072", "--cuda-memory-fraction", "0.3", image=TGI)
        self.starts("L4", "--model-id", EIGHT, "--quantize", "bitsandbytes-nf4", "--max-total-tokens", "4096", image=TGI)
        # SGLang's torchao.
        launch = lambda how: dict(command=["python3", "-m", "sglang.launch_server", "--model-path", EIGHT, "--torchao-config", how, "--context-length", "4096"], image=SGLANG)
        self.starts("L4", **launch("int4wo-128"))
        self.assertEqual(self.on("L4", **launch("fp8wo")), [])

    def test_experts_that_stay_as_they_were_trained(self):
        """gpt-oss' experts are MXFP4 in every GGUF: an F16 of 20b is 12.8 GiB, of 120b 61."""
        for name, least, most in (("unsloth/gpt-oss-20b-GGUF:F16", 11.5, 14), ("unsloth/gpt-oss-20b-GGUF:Q4_K_M", 10, 12), ("ggml-org/gpt-oss-120b-GGUF", 56, 64), ("unsloth/gpt-oss-120b-GGUF:F16", 57, 66)):
            told = fit(name, "--engine", "llamacpp", "--gpu", "H100", "--tp", 1, "--max-model-len", 8192)
            self.assertTrue(least < told["weights_bytes_per_gpu"] / 2**30 < most, (name, told["weights_bytes_per_gpu"] / 2**30))
        # A copy that is no GGUF really is at 16 bit.
        self.assertGreater(fit("unsloth/gpt-oss-20b-BF16", "--gpu", "H100", "--tp", 1)["weights_bytes_per_gpu"] / 2**30, 36)

    def test_a_length_that_the_memory_decides(self):
        """`--max-model-len auto`: what is left is the context. Without room for the weights there is none."""
        for word in ("auto", "-1"):
            self.starts("H100", "--model", "Qwen/Qwen2.5-32B-Instruct", "--max-model-len", word)
            self.refused("nothing is left", "H100", "--model", LARGE, "--max-model-len", word)
        self.assertFalse([g for g in self.report["gaps"] if "context length" in g["what"]])
        # Less memory would be a shorter context: nothing smaller is advised.
        self.check(deployment(args=["--model", SMALL, "--max-model-len", "auto", "--max-num-seqs", "8"]))
        self.assertFalse(self.found("oversized-tier"))

    def test_engines_that_cut_their_context(self):
        """TGI, LMDeploy and TensorRT-LLM start with any pool where no length is stated; a length that is stated has to hold. Of NIM nobody knows."""
        trtllm, lmdeploy, nim = ("nvcr.io/nvidia/tensorrt-llm/release:1.1.0", "openmmlab/lmdeploy:v0.9.0", "nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.3")
        for more in (dict(args=["--model-id", EIGHT], image=TGI), dict(command=["lmdeploy", "serve", "api_server", EIGHT], image=lmdeploy), dict(command=["trtllm-serve", EIGHT], image=trtllm), dict(image=nim)):
            args = more.pop("args", [])
            self.assertEqual(self.on("L4", *args, **more), [], more)
            self.assertFalse(self.found("oversized-tier"), more)
        self.refused("131072 tokens", "L4", "--model-id", EIGHT, "--max-total-tokens", "131072", image=TGI)
        self.refused("nothing is left", "L4", "--model-id", LARGE, image=TGI)
        # Less memory would be a shorter context: the little that it serves is no reason for a smaller card.
        self.on("H100", "--model-id", SMALL, "--max-batch-size", "4", image=TGI)
        self.assertFalse(self.found("oversized-tier"))
        self.assertTrue([r for r in self.reasons("oversized-tier") if "as long as its memory" in r], self.reasons())

    def test_a_cache_that_is_told_too_small(self):
        """4 GiB for a request that needs 16: the card is not at fault, and no other one is advised."""
        for more in (["--kv-cache-memory-bytes", "4G"], ["--num-gpu-blocks-override", "1000"], ["--gpu-memory-utilization", "0.25"]):
            self.assertIn("What its settings leave", self.refused("one request of 131072", "H100", "--model", EIGHT, *more), more)

    # --- what does not stand on the card ---

    def test_weights_in_the_hosts_memory(self):
        """Experts, layers and groups of layers off the card: what is left of them on it is not known, or as much as is told."""
        self.unknown("L4", *GGUF, "-ngl", "99", "-ot", ".ffn_.*=CPU", "-c", "4096", image=LLAMACPP)
        for more in (["--n-cpu-moe", "36"], ["--cpu-moe"], ["-ts", "3,1"]):
            self.unknown("L4", "-hf", "unsloth/gpt-oss-120b-GGUF:F16", "-ngl", "99", *more, "-c", "8192", image=LLAMACPP)
        self.unknown("L4", "-hf", "unsloth/gpt-oss-120b-GGUF:F16", "-ngl", "99", "-c", "8192", image=LLAMACPP, env={"LLAMA_ARG_N_CPU_MOE": "36"})
        self.refused("nothing is left", "L4", *GGUF, "-ngl", "99", "-c", "4096", "--n-cpu-moe", "0", image=LLAMACPP)
        serve = lambda *more: dict(command=["python3", "-m", "sglang.launch_server", "--model-path", LARGE, "--context-length", "4096", *more], image=SGLANG)
        self.refused("nothing is left", "H100", **serve())
        self.starts("H100", **serve("--cpu-offload-gb", "80"))
        self.unknown("H100", **serve("--kt-weight-path", "/w", "--kt-num-gpu-experts", "1"))
        self.refused("nothing is left", "H100", "--model", LARGE, "--cpu-offload-gb", "40", "--max-model-len", "4096")
        self.unknown("H100", "--model", LARGE, "--offload-group-size", "8", "--max-model-len", "4096")

    def test_engines_that_start_all_the_same(self):
        """Ollama, and llama.cpp without a number of layers, leave in the host's memory what does not fit."""
        pull = dict(command=["sh", "-c", "ollama serve & sleep 5; ollama pull llama3.3:70b; wait"], image="ollama/ollama:0.5.7")
        self.unknown("L4", **pull)
        self.unknown("L4", *GGUF, "-c", "4096", image=LLAMACPP)
        self.refused("nothing is left", "L4", *GGUF, "-ngl", "99", "-c", "4096", image=LLAMACPP)
        # `-c 0` is the model's own length, and stated.
        self.on("H100", "-hf", "unsloth/Qwen3-8B-GGUF:Q4_K_M", "-ngl", "99", "-c", "0", image=LLAMACPP)
        self.assertFalse([g for g in self.report["gaps"] if "context length" in g["what"]])

    def test_a_profile_that_is_picked_at_the_start(self):
        """NIM finds fp8 for two H100; in bf16 alone its 70B would not hold a request. A 405B holds on one card in no way."""
        self.unknown("H100", gpus=2, image="nvcr.io/nim/meta/llama-3.3-70b-instruct:1.8.3")
        self.refused("nothing is left", "H100", gpus=1, image="nvcr.io/nim/meta/llama-3.1-405b-instruct:1.8.3")
        self.refused("nothing is left", "A100", gpus=1, image="nvcr.io/nim/meta/llama-3.3-70b-instruct:1.8.3")
        self.starts("H100", gpus=1, image="nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.3")

    # --- how many GPUs they take ---

    def test_ranks_that_ray_places(self):
        """A set of two pods makes one Ray cluster: eight GPUs each, sixteen ranks. Too few they are only where nothing says so."""
        script = 'if [ "$HOSTNAME" = s-0 ]; then ray start --head; vllm serve deepseek-ai/DeepSeek-V3 -tp 8 -pp 2; else ray start --address=s-0:6379 --block; fi'
        self.on("H200", gpus=8, command=["bash", "-c", script], replicas=2)
        self.assertFalse(self.found("parallelism-mismatch", "too-few"))
        self.assertTrue([r for r in self.reasons("parallelism-mismatch") if "Ray" in r])
        self.on("H200", "--model", "deepseek-ai/DeepSeek-V3", "-tp", "16", "--distributed-executor-backend", "ray", gpus=8)
        self.assertFalse(self.found("parallelism-mismatch", "too-few"))
        self.on("H200", "--model", "deepseek-ai/DeepSeek-V3", "-tp", "16", gpus=8)
        self.assertTrue(self.found("parallelism-mismatch", "too-few"))

    def test_devices_that_are_named(self):
        """llama.cpp told of one device of two; SGLang's router starts as many servers as it is told."""
        self.on("H100", "-hf", "unsloth/Qwen3-8B-GGUF:Q4_K_M", "-ngl", "99", "-dev", "CUDA0", gpus=2, image=LLAMACPP)
        self.assertTrue(self.found("parallelism-mismatch"))
        self.on("H100", "-hf", "unsloth/Qwen3-8B-GGUF:Q4_K_M", "-ngl", "99", "-dev", "CUDA0,CUDA1", gpus=2, image=LLAMACPP)
        self.assertFalse(self.found("parallelism-mismatch"))
        router = lambda ranks: dict(command=["python3", "-m", "sglang_router.launch_server", "--model-path", EIGHT, "--dp-size", str(ranks)], image=SGLANG, gpus=8)
        self.on("H100", **router(8))
        self.no_dollars()
        self.on("H100", **router(4))
        self.assertTrue(self.found("parallelism-mismatch"))

    def test_one_half_of_a_split_server_by_dots(self):
        self.check(deployment(args=["--model", SMALL, "--max-model-len", "4096", "--max-num-seqs", "8", "--kv-transfer-config.kv_connector", "NixlConnector", "--kv-transfer-config.kv_role", "kv_producer"]))
        self.assertFalse(self.found("oversized-tier"))


# Those of the class that is built on run where they are written.
for name in [n for n in dir(Manifests) if n.startswith("test_")]:
    setattr(Starts, name, None)
del Manifests

if __name__ == "__main__":
    unittest.main(verbosity=1)

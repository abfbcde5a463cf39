// What the real Node client of OpenAI expects. UPDRAFT_URL is where an agent serves /v1.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.UPDRAFT_URL,
  apiKey: "none",
  maxRetries: 0,
  timeout: 100_000,
});
const messages = [{ role: "user", content: "add(1, 2)" }];
const ask = { model: "tiny", messages, max_completion_tokens: 24, temperature: 0 };
const tools = [
  {
    type: "function",
    function: {
      name: "weather",
      parameters: {
        type: "object",
        properties: { city: { enum: ["Zürich", "Bern"] } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  },
];
const forced = {
  ...ask,
  tools,
  tool_choice: { type: "function", function: { name: "weather" } },
  max_completion_tokens: 200,
};

test("a chat has a message and its usage", async () => {
  const answer = await client.chat.completions.create(ask);
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.choices[0].message.role, "assistant");
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.equal(
    answer.usage.total_tokens,
    answer.usage.prompt_tokens + answer.usage.completion_tokens,
  );
  assert.equal(answer.usage.updraft.mode, "standalone");
});

test("a stream says the same in pieces", async () => {
  const whole = await client.chat.completions.create(ask);
  const stream = await client.chat.completions.create({
    ...ask,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  let reason = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(reason, whole.choices[0].finish_reason);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("logprobs are those of the best tokens", async () => {
  const answer = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 2 });
  const content = answer.choices[0].logprobs.content;
  assert.ok(content.length > 0);
  for (const entry of content) {
    assert.equal(entry.top_logprobs.length, 2);
    assert.ok(entry.logprob <= 0);
  }
});

test("a stop string ends the text before it", async () => {
  const whole = (await client.chat.completions.create(ask)).choices[0].message.content;
  const stop = whole.slice(whole.length / 2).slice(0, 2);
  const answer = await client.chat.completions.create({ ...ask, stop });
  assert.equal(answer.choices[0].message.content, whole.slice(0, whole.indexOf(stop)));
  assert.equal(answer.choices[0].finish_reason, "stop");
});

test("a seed gives the same text again", async () => {
  const draw = async () =>
    (await client.chat.completions.create({ ...ask, temperature: 1.2, seed: 7 })).choices[0].message
      .content;
  assert.equal(await draw(), await draw());
});

test("an answer keeps a JSON schema", async () => {
  const schema = {
    type: "object",
    properties: { colour: { enum: ["red", "green"] } },
    required: ["colour"],
    additionalProperties: false,
  };
  const answer = await client.chat.completions.parse({
    ...ask,
    max_completion_tokens: 200,
    response_format: { type: "json_schema", json_schema: { name: "x", strict: true, schema } },
  });
  assert.ok(["red", "green"].includes(JSON.parse(answer.choices[0].message.content).colour));
});

test("a tool is called and its answer taken", async () => {
  const answer = await client.chat.completions.create(forced);
  const message = answer.choices[0].message;
  assert.equal(answer.choices[0].finish_reason, "tool_calls");
  const [call] = message.tool_calls;
  assert.equal(call.function.name, "weather");
  assert.ok(["Zürich", "Bern"].includes(JSON.parse(call.function.arguments).city));
  const told = { role: "tool", tool_call_id: call.id, content: "21" };
  const after = await client.chat.completions.create({
    ...ask,
    tools,
    messages: [...messages, message, told],
  });
  assert.ok(after.usage.completion_tokens > 0);
});

test("a streamed call is put together by the client's helper", async () => {
  const stream = client.chat.completions.stream(forced);
  const final = await stream.finalChatCompletion();
  const [call] = final.choices[0].message.tool_calls;
  assert.equal(call.function.name, "weather");
  assert.ok(["Zürich", "Bern"].includes(JSON.parse(call.function.arguments).city));
});

test("legacy completions are served too", async () => {
  const answer = await client.completions.create({
    model: "tiny",
    prompt: "for item in",
    max_tokens: 4,
    logprobs: 1,
  });
  assert.equal(answer.object, "text_completion");
  assert.ok(answer.choices[0].logprobs.tokens.length > 0);
});

test("the model is listed", async () => {
  const found = [];
  for await (const model of client.models.list()) found.push(model.id);
  assert.deepEqual(found, ["tiny"]);
  assert.equal((await client.models.retrieve("tiny")).id, "tiny");
});

test("errors have the classes of the client", async () => {
  await assert.rejects(client.chat.completions.create({ ...ask, n: 99 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.status, 400);
    assert.match(error.message, /n 99 lies outside/);
    return true;
  });
  await assert.rejects(
    client.chat.completions.create({ ...ask, model: "gpt-9" }),
    OpenAI.NotFoundError,
  );
});

test("a client that aborts frees its place", async () => {
  for (let count = 0; count < 6; count++) {
    const stream = await client.chat.completions.create({
      ...ask,
      max_completion_tokens: 3000,
      stream: true,
    });
    for await (const chunk of stream) {
      assert.ok(chunk.id);
      stream.controller.abort();
      break;
    }
  }
  const health = new URL("/healthz", process.env.UPDRAFT_URL);
  for (let wait = 0; wait < 600; wait++) {
    if ((await (await fetch(health)).json()).generations === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail("its places are still taken");
});

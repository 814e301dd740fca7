// The official `openai` client for Node.
import OpenAI from "openai";
import { ask, failed, image, key, models, question, run, schema, texts, tools, url } from "./observing.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0, timeout: 30_000 });
const functions = tools.map((tool) => ({ type: "function", function: tool }));
const create = (changes) =>
  client.chat.completions.create({ model: models.chat, messages: ask, ...changes });
const counts = (usage) => [usage.prompt_tokens, usage.completion_tokens];
const calls = (choice) => ({
  calls: choice.message.tool_calls.map((call) => [
    call.id,
    call.function.name,
    JSON.parse(call.function.arguments),
  ]),
  finish: choice.finish_reason,
});

await run({
  async chat() {
    const found = await create();
    const [choice] = found.choices;
    return {
      text: choice.message.content,
      finish: choice.finish_reason,
      usage: counts(found.usage),
    };
  },
  async stream() {
    let text = "";
    let finish = null;
    let chunks = 0;
    for await (const chunk of await create({ stream: true })) {
      text += chunk.choices[0].delta.content ?? "";
      finish = chunk.choices[0].finish_reason ?? finish;
      chunks += 1;
    }
    return { text, finish, chunks };
  },
  async stream_usage() {
    let usage;
    for await (const chunk of await create({
      stream: true,
      stream_options: { include_usage: true },
    })) {
      usage = chunk.usage ?? usage;
    }
    return { usage: counts(usage) };
  },
  tools: async () => calls((await create({ tools: functions })).choices[0]),
  async tools_stream() {
    // The client's own assembly of a streamed message.
    const stream = client.chat.completions.stream({
      model: models.chat,
      messages: ask,
      tools: functions,
      parallel_tool_calls: true,
    });
    return calls((await stream.finalChatCompletion()).choices[0]);
  },
  async structured() {
    const found = await create({
      response_format: { type: "json_schema", json_schema: { name: "weather", strict: true, schema } },
    });
    return { value: JSON.parse(found.choices[0].message.content) };
  },
  async image() {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: `data:image/png;base64,${image}` } },
    ];
    const found = await create({ model: models.image, messages: [{ role: "user", content }] });
    return { text: found.choices[0].message.content };
  },
  async reasoning() {
    let text = "";
    let reasoning = "";
    for await (const chunk of await create({ model: models.reasoning, stream: true })) {
      text += chunk.choices[0].delta.content ?? "";
      reasoning += chunk.choices[0].delta.reasoning_content ?? "";
    }
    return { text, reasoning };
  },
  async choices() {
    const found = await create({ n: 2 });
    return { texts: found.choices.map((choice) => choice.message.content) };
  },
  async logprobs() {
    const found = await create({ model: models.logprobs, logprobs: true, top_logprobs: 1 });
    return { tokens: found.choices[0].logprobs.content.map((one) => [one.token, one.logprob]) };
  },
  async embeddings() {
    const found = await client.embeddings.create({ model: models.chat, input: texts, dimensions: 8 });
    return { vectors: found.data.map((one) => one.embedding) };
  },
  async responses() {
    const found = await client.responses.create({ model: models.chat, input: question });
    return {
      text: found.output_text,
      usage: [found.usage.input_tokens, found.usage.output_tokens],
    };
  },
  async responses_stream() {
    const stream = client.responses.stream({ model: models.chat, input: question });
    let text = "";
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    const { usage } = await stream.finalResponse();
    return { text, usage: [usage.input_tokens, usage.output_tokens] };
  },
  async text_completion() {
    const body = { model: models.chat, prompt: question, max_tokens: 500 };
    let streamed = "";
    for await (const chunk of await client.completions.create({ ...body, stream: true })) {
      streamed += chunk.choices[0].text;
    }
    return { text: (await client.completions.create(body)).choices[0].text, streamed };
  },
  async models() {
    const found = [];
    for await (const model of client.models.list()) found.push(model.id);
    return { models: found };
  },
  invalid_request: () => failed(() => create({ model: models.invalid_request })),
  rate_limit: () => failed(() => create({ model: models.rate_limit })),
  async stream_error() {
    let text = "";
    const error = await failed(async () => {
      for await (const chunk of await create({ model: models.stream_error, stream: true })) {
        text += chunk.choices[0].delta.content ?? "";
      }
    });
    return { ...error, text };
  },
  authentication: () =>
    failed(() =>
      client
        .withOptions({ apiKey: "wrong" })
        .chat.completions.create({ model: models.chat, messages: ask }),
    ),
});

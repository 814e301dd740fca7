// The official `@anthropic-ai/sdk` client for Node: every feature over `/v1/messages`.
import Anthropic from "@anthropic-ai/sdk";
import { ask, failed, image, key, models, run, schema, tools, url } from "./observing.mjs";

const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0, timeout: 30_000 });
const given = tools.map(({ name, description, parameters }) => ({
  name,
  description,
  input_schema: parameters,
}));
const body = (changes) => ({ model: models.chat, max_tokens: 500, messages: ask, ...changes });
const create = (changes) => client.messages.create(body(changes));
const counts = (usage) => [usage.input_tokens, usage.output_tokens];
const text = (message) =>
  message.content.map((block) => (block.type === "text" ? block.text : "")).join("");
const calls = (message) => ({
  calls: message.content
    .filter((block) => block.type === "tool_use")
    .map((block) => [block.id, block.name, block.input]),
  finish: message.stop_reason,
});

await run({
  async chat() {
    const found = await create();
    return { text: text(found), finish: found.stop_reason, usage: counts(found.usage) };
  },
  async stream() {
    const stream = client.messages.stream(body());
    const pieces = [];
    stream.on("text", (piece) => pieces.push(piece));
    const message = await stream.finalMessage();
    return { text: pieces.join(""), finish: message.stop_reason, chunks: pieces.length };
  },
  stream_usage: async () => ({
    usage: counts((await client.messages.stream(body()).finalMessage()).usage),
  }),
  tools: async () =>
    calls(
      await create({ tools: given, tool_choice: { type: "auto", disable_parallel_tool_use: true } }),
    ),
  tools_stream: async () =>
    calls(
      await client.messages
        .stream(
          body({ tools: given, tool_choice: { type: "auto", disable_parallel_tool_use: false } }),
        )
        .finalMessage(),
    ),
  async structured() {
    const found = await create({ output_config: { format: { type: "json_schema", schema } } });
    return { value: JSON.parse(text(found)) };
  },
  async image() {
    const source = { type: "base64", media_type: "image/png", data: image };
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image", source },
    ];
    const found = await create({ model: models.image, messages: [{ role: "user", content }] });
    return { text: text(found) };
  },
  async reasoning() {
    const thinking = { type: "enabled", budget_tokens: 1024 };
    const message = await client.messages
      .stream(body({ model: models.reasoning, thinking, max_tokens: 2000 }))
      .finalMessage();
    const reasoning = message.content.map((block) => block.thinking ?? "").join("");
    return { text: text(message), reasoning };
  },
  async messages() {
    // A conversation whose last message is the result of a tool, and the count of its tokens.
    const messages = [
      ...ask,
      {
        role: "assistant",
        content: [{ type: "tool_use", id: "toolu_1", name: "get_time", input: { city: "Tokyo" } }],
      },
      {
        role: "user",
        content: [{ type: "tool_result", tool_use_id: "toolu_1", content: "It is noon." }],
      },
    ];
    const found = await create({ messages, tools: given, system: "Be brief." });
    const counted = await client.messages.countTokens({ model: models.chat, messages });
    return { text: text(found), finish: found.stop_reason, counted: counted.input_tokens };
  },
  invalid_request: () => failed(() => create({ model: models.invalid_request })),
  rate_limit: () => failed(() => create({ model: models.rate_limit })),
  async stream_error() {
    let received = "";
    const error = await failed(async () => {
      const stream = await create({ model: models.stream_error, stream: true });
      for await (const event of stream) received += event.delta?.text ?? "";
    });
    return { ...error, text: received };
  },
  authentication: () =>
    failed(() => client.withOptions({ apiKey: "wrong" }).messages.create(body())),
});

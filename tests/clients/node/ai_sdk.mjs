// The Vercel AI SDK, with its OpenAI-compatible provider and, for Responses, its OpenAI provider.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import { failed, image, key, models, question, run, schema, texts, tools, url } from "./observing.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const settings = (apiKey = key) => ({
  name: "chatscope",
  baseURL: `${url}/v1`,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const compatible = createOpenAICompatible(settings());
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const model = compatible.chatModel(models.chat);
const given = Object.fromEntries(
  tools.map(({ name, description, parameters }) => [
    name,
    tool({ description, inputSchema: jsonSchema(parameters) }),
  ]),
);
const generate = (changes) =>
  generateText({ model, prompt: question, maxRetries: 0, ...changes });
const stream = (changes) =>
  streamText({ model, prompt: question, maxRetries: 0, onError() {}, ...changes });
const counts = (usage) => [usage.inputTokens, usage.outputTokens];
const calls = async (found) => ({
  calls: (await found.toolCalls).map((call) => [call.toolCallId, call.toolName, call.input]),
  finish: await found.finishReason,
});

await run({
  async chat() {
    const found = await generate();
    return { text: found.text, finish: found.finishReason, usage: counts(found.usage) };
  },
  async stream() {
    const found = stream();
    const pieces = [];
    for await (const piece of found.textStream) pieces.push(piece);
    return { text: pieces.join(""), finish: await found.finishReason, chunks: pieces.length };
  },
  async stream_usage() {
    const found = stream();
    await found.consumeStream();
    return { usage: counts(await found.usage) };
  },
  tools: async () => calls(await generate({ tools: given })),
  async tools_stream() {
    const found = stream({
      tools: given,
      providerOptions: { chatscope: { parallel_tool_calls: true } },
    });
    await found.consumeStream();
    return calls(found);
  },
  async structured() {
    const found = await generateObject({
      model,
      prompt: question,
      maxRetries: 0,
      schema: jsonSchema(schema),
    });
    return { value: found.object };
  },
  async image() {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image", image: `data:image/png;base64,${image}`, mediaType: "image/png" },
    ];
    const found = await generateText({
      model: compatible.chatModel(models.image),
      messages: [{ role: "user", content }],
      maxRetries: 0,
    });
    return { text: found.text };
  },
  async reasoning() {
    const found = stream({ model: compatible.chatModel(models.reasoning) });
    await found.consumeStream();
    return { text: await found.text, reasoning: await found.reasoningText };
  },
  async logprobs() {
    const found = await generate({
      model: openai.chat(models.logprobs),
      providerOptions: { openai: { logprobs: 1 } },
    });
    const { logprobs } = found.providerMetadata.openai;
    return { tokens: logprobs.map((one) => [one.token, one.logprob]) };
  },
  async embeddings() {
    const found = await embedMany({
      model: compatible.embeddingModel(models.chat),
      values: texts,
      maxRetries: 0,
      providerOptions: { chatscope: { dimensions: 8 } },
    });
    return { vectors: found.embeddings };
  },
  async responses() {
    const found = await generate({ model: openai.responses(models.chat) });
    return { text: found.text, usage: counts(found.usage) };
  },
  async responses_stream() {
    const found = stream({ model: openai.responses(models.chat) });
    await found.consumeStream();
    return { text: await found.text, usage: counts(await found.usage) };
  },
  async text_completion() {
    const chosen = { model: compatible.completionModel(models.chat), maxOutputTokens: 500 };
    const found = stream(chosen);
    await found.consumeStream();
    return { text: (await generate(chosen)).text, streamed: await found.text };
  },
  invalid_request: () =>
    failed(() => generate({ model: compatible.chatModel(models.invalid_request) })),
  rate_limit: () => failed(() => generate({ model: compatible.chatModel(models.rate_limit) })),
  async stream_error() {
    let text = "";
    const error = await failed(async () => {
      const found = stream({ model: compatible.chatModel(models.stream_error) });
      for await (const part of found.fullStream) {
        if (part.type === "text-delta") text += part.text;
        if (part.type === "error") throw part.error;
      }
    });
    return { ...error, text };
  },
  authentication: () =>
    failed(() =>
      generate({ model: createOpenAICompatible(settings("wrong")).chatModel(models.chat) }),
    ),
});

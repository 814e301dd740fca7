// What all Node programs share: their input, and the form of what they print.
// Each prints one line of JSON for each feature: what its client returned, or the stack.
import { readFileSync } from "node:fs";

export const requests = JSON.parse(readFileSync(process.env.REQUESTS, "utf8"));
export const [url, key] = process.argv.slice(2);
export const { models, question, tools, schema, image, texts } = requests;
export const ask = [{ role: "user", content: question }];

/** The error of a call: its class, status, and `code` of the body. */
export async function failed(call) {
  try {
    const returned = await call();
    return { error: null, returned: JSON.stringify(returned) };
  } catch (error) {
    const body = error.error?.error ?? error.error;
    return {
      error: error.constructor.name,
      status: error.status ?? error.statusCode ?? null,
      code: body?.details?.error_code ?? error.code ?? body?.code ?? error.data?.error?.code ?? null,
      message: error.message,
    };
  }
}

export async function run(features) {
  for (const [feature, use] of Object.entries(features)) {
    let line;
    try {
      line = { feature, seen: await use() };
    } catch (error) {
      line = { feature, failure: `${error.stack}` };
    }
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }
}

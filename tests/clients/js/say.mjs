// What every program here shares: the official client as a user would make it, and JSON lines out.
import OpenAI from "openai";

export const HELLO = [{ role: "user", content: "Hello" }];
export const WEATHER = {
  type: "function",
  function: {
    name: "weather",
    parameters: { type: "object", properties: { city: { type: "string" } } },
  },
};

// OPENAI_BASE_URL and OPENAI_API_KEY are the client's own variables: nothing else is changed.
export const client = (options = {}) => new OpenAI({ maxRetries: 0, ...options });

export const say = (line) => console.log(JSON.stringify(line));

// How a call failed, as a program would tell: by the client's own classes.
export const failure = async (call) => {
  try {
    await call();
  } catch (error) {
    return {
      kind: error.constructor.name,
      isApiError: error instanceof OpenAI.APIError,
      status: error.status ?? null,
      code: error.code ?? null,
      type: error.type ?? null,
      param: error.param ?? null,
      requestId: error.requestID ?? null,
      retryAfter: error.headers?.get("retry-after") ?? null,
      message: error.message,
    };
  }
  return { kind: "none" };
};

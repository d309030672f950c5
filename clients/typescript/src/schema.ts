/** Any schema library's object, zod's first of all: what it must have, and how it is asked. */

interface Failed {
  readonly success: false;
  readonly error: unknown;
}

/** Something with `safeParse` or `parse`, and `toJSONSchema` unless the JSON schema is given. */
export type Schema<T> = (
  | { safeParse(value: unknown): { readonly success: true; readonly data: T } | Failed }
  | { parse(value: unknown): T }
) & { toJSONSchema?(): object };

export type Verdict<T> =
  | { readonly fits: true; readonly value: T }
  | { readonly fits: false; readonly problems: string[]; readonly error: unknown };

export function judge<T>(schema: Schema<T>, value: unknown): Verdict<T> {
  let error: unknown;
  if ("safeParse" in schema) {
    const found = schema.safeParse(value);
    if (found.success) return { fits: true, value: found.data };
    error = found.error;
  } else {
    try {
      return { fits: true, value: schema.parse(value) };
    } catch (thrown) {
      error = thrown;
    }
  }
  return { fits: false, problems: problemsOf(error), error };
}

/** Throws the schema's own error. */
export function parsed<T>(schema: Schema<T>, value: unknown): T {
  const verdict = judge(schema, value);
  if (!verdict.fits) throw verdict.error;
  return verdict.value;
}

/** Throws TypeError for a schema that has none and was given none. */
export function jsonSchemaOf(schema: Schema<unknown>, given?: object): Record<string, unknown> {
  const found = given ?? schema.toJSONSchema?.();
  if (!found) throw new TypeError("This schema cannot tell its JSON schema: give `jsonSchema`.");
  // What dialect it is in, a model need not know, and some refuse it.
  const { $schema: _dialect, ...rest } = found as Record<string, unknown>;
  return rest;
}

function problemsOf(error: unknown): string[] {
  const { issues, message } = (error ?? {}) as { issues?: unknown; message?: unknown };
  if (Array.isArray(issues) && issues.length) {
    return issues.map(({ path, message: said }: { path?: unknown; message?: unknown }) => {
      const place = Array.isArray(path) ? path.map(String).join(".") : "";
      return `${place || "the answer"}: ${String(said)}`;
    });
  }
  return [`the answer: ${typeof message === "string" ? message : "it is not valid"}`];
}

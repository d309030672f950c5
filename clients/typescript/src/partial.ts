/** JSON as far as it has arrived. Pure. */

/** Stands for what has not come far enough to say. */
const NOTHING = Symbol();

/** The object so far, its last text included; undefined before it begins, and for what is none. */
export function partial(text: string): Record<string, unknown> | undefined {
  const found = new Reader(bare(text)).value();
  return typeof found === "object" && found !== null && !Array.isArray(found)
    ? (found as Record<string, unknown>)
    : undefined;
}

/** Without the fence that models like to put around JSON. */
export function bare(text: string): string {
  const trimmed = text.trim();
  if (!trimmed.startsWith("```")) return trimmed;
  const begin = trimmed.indexOf("\n");
  return begin < 0 ? "" : trimmed.slice(begin + 1).replace(/```$/, "");
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  value(): unknown {
    const sign = this.#peek();
    if (sign === "{") return this.#object();
    if (sign === "[") return this.#array();
    if (sign === '"') return this.#string().value;
    return this.#word();
  }

  #object(): Record<string, unknown> {
    const found: Record<string, unknown> = {};
    this.#at += 1;
    while (this.#peek() === '"') {
      const name = this.#string();
      if (!name.isWhole || this.#peek() !== ":") break;
      this.#at += 1;
      const value = this.value();
      if (value === NOTHING) break;
      // Not by assignment: a model may write __proto__.
      const own = { value, enumerable: true, writable: true, configurable: true };
      Object.defineProperty(found, name.value, own);
      if (this.#peek() !== ",") break;
      this.#at += 1;
    }
    if (this.#peek() === "}") this.#at += 1;
    return found;
  }

  #array(): unknown[] {
    const found: unknown[] = [];
    this.#at += 1;
    while (this.#peek() !== "]") {
      const value = this.value();
      if (value === NOTHING) break;
      found.push(value);
      if (this.#peek() !== ",") break;
      this.#at += 1;
    }
    if (this.#peek() === "]") this.#at += 1;
    return found;
  }

  #string(): { value: string; isWhole: boolean } {
    const [inside = ""] = this.#match(/(?:[^"\\]|\\(?:u[0-9a-fA-F]{4}|[^u]))*/y, this.#at + 1);
    const isWhole = this.#text[this.#at] === '"';
    if (isWhole) this.#at += 1;
    if (!isWhole) this.#at = this.#text.length;
    try {
      const value = JSON.parse(`"${inside}"`) as string;
      // Half of a pair in UTF-16 is not shown yet.
      return { value: isWhole ? value : value.replace(/[\ud800-\udbff]$/, ""), isWhole };
    } catch {
      return { value: "", isWhole: false };
    }
  }

  /** A number, true, false or null; one at the very end may not be whole. */
  #word(): unknown {
    const [found] = this.#match(/-?\d[\d.eE+-]*|true|false|null/y, this.#at);
    if (found === undefined || this.#at >= this.#text.length) return NOTHING;
    try {
      return JSON.parse(found) as unknown;
    } catch {
      return NOTHING;
    }
  }

  #match(pattern: RegExp, at: number): RegExpExecArray | [] {
    pattern.lastIndex = at;
    const found = pattern.exec(this.#text);
    if (found) this.#at = pattern.lastIndex;
    return found ?? [];
  }

  /** The next sign that is no white space. */
  #peek(): string | undefined {
    this.#match(/[ \t\r\n]*/y, this.#at);
    return this.#text[this.#at];
  }
}

/// <reference lib="esnext.disposable" preserve="true" />

/** What `await using` calls, where the runtime has it; elsewhere the name of a method nobody calls. */
export const asyncDispose: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? (Symbol.for("Symbol.asyncDispose") as typeof Symbol.asyncDispose);
